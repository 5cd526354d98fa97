# SPDX-License-Identifier: Apache-2.0
"""Which images are trained on, which are held out, and at what size they are used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from arguments import ModelParams
from utils.errors import DataError, FormatError, UserError
from utils.json_files import read_json

HOLD_OUT_EVERY = 8  # the habit of Mip-NeRF 360 and all that follow it
WIDEST = 1600  # 2DGS scales wider images down to this unless told otherwise
ALL_VIEWS, HALF_THE_VIEWS = 100, 50  # what these values of --n_views mean in Gaussian Grouping


def render_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """2DGS' rule for --resolution: 1, 2, 4, 8 divide; -1 limits the width to 1600; else a width.

    Raises UserError for other numbers below 1.
    """
    if resolution in (1, 2, 4, 8):
        return max(1, round(width / resolution)), max(1, round(height / resolution))
    if resolution == -1:
        if width <= WIDEST:
            return width, height
        return WIDEST, max(1, height * WIDEST // width)
    if resolution < 1:
        raise UserError(f"--resolution {resolution}: expected -1, 1, 2, 4, 8 or a width in pixels")
    return resolution, max(1, height * resolution // width)


def every_eighth(names: Sequence[str]) -> set[str]:
    """The held-out names: every 8th in sorted order, beginning with the first."""
    return set(sorted(names)[::HOLD_OUT_EVERY])


def split_names(
    names: Sequence[str], held_out: set[str], params: ModelParams
) -> tuple[list[str], list[str]]:
    """Names of the training and of the held-out views, as the settings and the files want them.

    `held_out` are those that the scene's own files hold out. Raises DataError if nothing is left to
    train on, FormatError for a damaged split.json, UserError for a --n_views below 1.
    """
    source = Path(params.source_path)
    if params.train_split:
        chosen = names_in_folder(source / "images_train", names)
        held_out = set(names) - chosen
    elif not params.eval:
        return list(names), []
    elif (source / "split.json").is_file():
        train, test = read_split(source / "split.json", names)
        if not train:
            raise DataError(f"{source / 'split.json'}: no image of the scene is in 'train'")
        return thin_out(train, params.n_views), test
    elif not held_out:
        held_out = every_eighth(names)
    train = [name for name in names if name not in held_out]
    if not train:
        raise DataError(f"{source}: no view is left to train on after the split of {len(names)}")
    if not params.train_split:
        train = thin_out(train, params.n_views)
    return train, [name for name in names if name in held_out]


def read_split(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(train, test) of a split.json {"train": [names], "test": [names]}, in sorted order.

    Names that are not among `names` are dropped. Raises FormatError if it is not such a file or
    a name is in both lists.
    """
    record = read_json(path)
    lists = []
    for key in ("train", "test"):
        value = record.get(key)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise FormatError(f"{path}: {key!r} must be a list of image names")
        lists.append(set(value))
    both = sorted(lists[0] & lists[1])
    if both:
        raise FormatError(f"{path}: image {both[0]!r} is in both train and test")
    train = sorted(name for name in names if name in lists[0])
    test = sorted(name for name in names if name in lists[1])
    return train, test


def names_in_folder(folder: Path, names: Sequence[str]) -> set[str]:
    """Those names that have a file in the folder, whatever its suffix (for --train_split).

    Raises DataError if the folder is missing or has none of them.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --train_split takes its images for training")
    there = {
        file.relative_to(folder).with_suffix("").as_posix()
        for file in folder.rglob("*")
        if file.is_file()
    }
    chosen = {name for name in names if PurePosixPath(name).with_suffix("").as_posix() in there}
    if not chosen:
        raise DataError(f"{folder}: none of the scene's {len(names)} images is in it")
    return chosen


def thin_out(names: Sequence[str], n_views: int) -> list[str]:
    """Gaussian Grouping's --n_views: 100 = all, 50 = every second, else that many, evenly spaced.

    Raises UserError for less than 1.
    """
    if n_views < 1:
        raise UserError(f"--n_views {n_views}: at least one view is needed")
    if n_views == ALL_VIEWS:
        return list(names)
    if n_views == HALF_THE_VIEWS:
        return list(names[::2])
    if n_views >= len(names):
        return list(names)
    if n_views == 1:
        return [names[0]]
    last = len(names) - 1
    return [names[round(i * last / (n_views - 1))] for i in range(n_views)]
