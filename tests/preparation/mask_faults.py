# SPDX-License-Identifier: Apache-2.0
"""A scene with good masks, and ways to spoil them: one for each kind of finding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from arguments import ModelParams
from arguments.masks import CheckParams
from iqgs.preparation.mask_check import MaskReport, check_masks
from scene.masks import write_about
from utils.images import write_id_map

from .shapes import box, write_scene

NAMES = [f"{k:03d}.jpg" for k in range(8)]


def good_masks(source: Path) -> Path:
    """Ids 3 and 7 in every view."""
    for name in NAMES:
        ids = np.zeros((30, 40), np.int32)
        ids[box(4, 4, 16, 14)], ids[box(20, 16, 36, 26)] = 3, 7
        path = source / "object_mask" / Path(name).with_suffix(".png")
        path.parent.mkdir(exist_ok=True)
        write_id_map(path, ids)
    return source


def checked(source: Path, check: CheckParams | None = None, **changes: Any) -> MaskReport:
    return check_masks(check or CheckParams(), ModelParams(str(source), **changes))


def first(source: Path) -> Path:
    return source / "object_mask/000.png"


def change(source: Path, edit: Callable[[np.ndarray], Any], names: slice = slice(1)) -> None:
    """Change the ids of some masks: in place, or to what `edit` returns."""
    for path in sorted((source / "object_mask").glob("*.png"))[names]:
        ids = np.asarray(Image.open(path)).astype(np.int32)
        changed = edit(ids)
        write_id_map(path, ids if changed is None else changed)


def put(*boxes: tuple[int, tuple[int, int, int, int]]) -> Callable[[np.ndarray], None]:
    def edit(ids: np.ndarray) -> None:
        for number, (left, top, right, bottom) in boxes:
            ids[top:bottom, left:right] = number

    return edit


def colored(source: Path, names: slice = slice(None)) -> None:
    for path in sorted((source / "object_mask").glob("*.png"))[names]:
        ids = np.asarray(Image.open(path))
        pixels = np.zeros((*ids.shape, 3), np.uint8)
        pixels[ids == 3], pixels[ids == 7] = (250, 10, 20), (3, 220, 91)
        Image.fromarray(pixels).save(path)


def photograph_like(source: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)).save(first(source))


def lossy(source: Path) -> None:
    Image.open(first(source)).convert("L").save(first(source).with_suffix(".jpg"))
    first(source).unlink()


def twice_named(source: Path) -> None:
    """Photographs of the same name in two folders, masks in one."""
    shutil.rmtree(source)
    write_scene(source, ["one/000.jpg", "two/000.jpg"])
    (source / "object_mask").mkdir()
    write_id_map(first(source), np.ones((30, 40), np.int32))


def data_set(source: Path) -> None:
    items = [
        {"image_id": k, "segmentation": {"size": [30, 40], "counts": [600, 600]}} for k in (1, 2)
    ]
    first(source).unlink()
    first(source).with_suffix(".json").write_text(json.dumps(items))


def negative(source: Path) -> None:
    first(source).unlink()
    np.save(first(source).with_suffix(".npy"), np.full((30, 40), -5))


def unclear_turn(source: Path) -> None:
    """A photograph that its tag turns by half, and a mask that does not say how it lies."""
    turned(source, 3)


def turned(source: Path, code: int) -> None:
    for name in NAMES:
        path = source / "images" / name
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = code
        Image.open(path).save(path, exif=exif.tobytes())


def turned_plainly(source: Path) -> None:
    """By a quarter, and masks as people see the photograph."""
    turned(source, 6)
    change(source, lambda ids: np.ascontiguousarray(np.rot90(ids, -1)), slice(None))


def palettes(source: Path) -> None:
    for number, path in enumerate(sorted((source / "object_mask").glob("*.png"))):
        image = Image.fromarray(np.asarray(Image.open(path)).astype(np.uint8), "P")
        image.putpalette([0, 0, 0] + [10 * number, 90, 30] * 255)
        image.save(path)


def lists(source: Path) -> None:
    bits = np.stack([box(4, 4, 16, 14), box(2, 2, 36, 26)])
    for path in sorted((source / "object_mask").glob("*.png")):
        np.savez(path.with_suffix(".npz"), masks=bits)
        path.unlink()


def specks(source: Path) -> None:
    marks = [(10 + k, (2 + 2 * k, 28, 4 + 2 * k, 29)) for k in range(8)]
    change(source, put(*marks), slice(None))


Break = Callable[[Path], Any]
BAD: dict[str, tuple[Break, str, dict[str, Any]]] = {
    # kind -> what breaks a good scene, a piece of the sentence, settings of the check
    "none": (lambda s: shutil.rmtree(s / "object_mask"), "no such folder of masks", {}),
    "shared": (twice_named, "'one/000.jpg' and 'two/000.jpg' would both use", {}),
    "unreadable": (lambda s: first(s).write_bytes(b"\x89PNG\r\n\x1a\n..."), "000.png", {}),
    "lossy": (lossy, "000.jpg", {}),
    "picture": (photograph_like, "000.png", {}),
    "data set": (data_set, "000.json: holds the masks of 2 images", {}),
    "ids": (negative, "id -5 is not within", {}),
    "mixed": (lambda s: colored(s, slice(1)), "000.png holds colours and 001.png numbers", {}),
    "orientation": (unclear_turn, "--mask_orientation", {}),
    "size": (
        lambda s: change(s, lambda ids: np.pad(ids, ((0, 0), (0, 20)))),
        "000.png: the mask has 60x30 pixels but image '000.jpg' has 40x30",
        {},
    ),
    "missing": (lambda s: first(s).unlink(), "1 of 8 views have no mask", {}),
    "unmatched": (
        lambda s: shutil.copy(first(s), s / "object_mask/other.png"),
        "other.png",
        {},
    ),
    "turned": (turned_plainly, "8 of 8 masks are turned by the EXIF orientation (6)", {}),
    "resampled": (
        lambda s: change(s, lambda ids: np.ascontiguousarray(ids[:, :-1])),
        "000.png: 39x30 for 40x30",
        {},
    ),
    "empty": (lambda s: change(s, np.zeros_like, slice(None)), "all masks are empty", {}),
    "untrained": (
        lambda s: change(s, put((50, (0, 0, 9, 3)))),
        "id 50 is in no training view",
        {"eval": True},
    ),
    "single": (
        lambda s: change(s, put((50, (0, 0, 9, 3)))),
        "id 50 is in one view only (000.jpg)",
        {},
    ),
    "specks": (specks, "8 of 10 ids cover fewer than 8 pixels a view", {}),
    "palettes": (palettes, "index 3 is", {}),
    "colors": (colored, "2 colours are numbered", {}),
    "fresh": (lambda s: write_about(s / "object_mask", "view", {}), "object_mask.json says", {}),
    "overlapping": (lists, "8 of the masks are lists that may overlap", {}),
    "unused label": (lambda s: None, "--ignore_label 99: no mask holds", {"ignore_label": 99}),
    "scaled": (
        lambda s: change(s, lambda ids: np.kron(ids, np.ones((2, 2), np.int32))),
        "000.png: 80x60 for 40x30",
        {},
    ),
    "empty view": (
        lambda s: change(s, np.zeros_like),
        "1 of the masks hold no object: 000.jpg",
        {},
    ),
}
