# SPDX-License-Identifier: Apache-2.0
"""Masks of a text in the views of a scene: from a folder, or from any program.

A folder holds `<view>/<text>.png`, as LERF-Mask's test_mask and Grounded-SAM's scripts have it. A
program is started once for each text and view: `--command 'prog {image} {prompt} {output}'`; it
finds the photograph as {image} and writes one binary mask at {output}, a PNG.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from iqgs.evaluation.lerf_mask import read_binary_mask, resize_nearest
from iqgs.preparation.programs import command_words, run_program
from scene.view import View
from utils.errors import DataError, UserError
from utils.images import write_image

THRESHOLD = 0.5  # of full scale: what is brighter belongs to the mask
SHAPE_SLACK = 0.02  # of the aspect ratio
PLACES = ("{image}", "{prompt}", "{output}")

Mask = NDArray[np.bool_]


class TextMasks(Protocol):
    """Somebody who knows where a text is in a view."""

    def mask(self, text: str, view: View) -> Mask | None:
        """[H, W] in the size of the view's camera, all False: it is not there; None: not known."""


class FolderMasks:
    """Masks that are there already."""

    def __init__(self, folder: Path, views: Sequence[View]) -> None:
        """UserError for a folder that holds no mask of any of these views."""
        self.folders = folders_of_views(folder, views)
        self.folder = folder

    def texts(self) -> list[str]:
        """All that the folder has masks of."""
        return sorted({p.stem for folder in self.folders.values() for p in folder.glob("*.png")})

    def mask(self, text: str, view: View) -> Mask | None:
        folder = self.folders.get(view.name)
        path = None if folder is None else folder / f"{text}.png"
        if path is None or not path.is_file():
            return None
        return as_camera_sees(read_binary_mask(path, THRESHOLD), view, path)


class CommandMasks:
    """Masks that a program makes."""

    def __init__(self, command: str, timeout: float) -> None:
        self.words = command_words(command, "a program with {image}, {prompt} and {output}")
        self.timeout = timeout

    def mask(self, text: str, view: View) -> Mask | None:
        with tempfile.TemporaryDirectory(prefix="iqgs_") as folder:
            photograph, output = Path(folder) / "image.png", Path(folder) / "mask.png"
            write_image(photograph, view.image)
            names = (str(photograph), text, str(output))
            run_program(self.words, dict(zip(PLACES, names, strict=True)), self.timeout)
            if not output.is_file():
                raise DataError(
                    f"--command: {self.words[0]!r} wrote no file {{output}} for {text!r} in "
                    f"{view.name}; where a text is not there it must write an empty mask"
                )
            found = read_binary_mask(output, THRESHOLD)
        return resize_nearest(found, (view.camera.height, view.camera.width))


def folders_of_views(folder: Path, views: Sequence[View]) -> dict[str, Path]:
    """View name -> its sub-folder: named as the photograph without its suffix, or, where no folder
    is, as its place among these views in the order of their names (0, 1, ..: LERF-Mask).

    UserError where none is.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of <view>/<text>.png")
    found = {}
    for view in views:
        stem = Path(view.name).with_suffix("")
        candidates = (folder / stem, folder / stem.name, folder / view.name)
        match = next((path for path in candidates if path.is_dir()), None)
        if match is not None:
            found[view.name] = match
    if not found:
        ordered = sorted(views, key=lambda view: view.name)
        for place, view in enumerate(ordered):
            for name in (str(place), f"{place:05d}"):
                if (folder / name).is_dir():
                    found[view.name] = folder / name
    if not found:
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise UserError(
            f"{folder} has no sub-folder of any of the {len(views)} views, such as "
            f"{Path(views[0].name).stem if views else '-'}; it holds {present}"
        )
    return found


def as_camera_sees(mask: Mask, view: View, path: Path) -> Mask:
    """A mask of a photograph at the size of the camera: turned, straightened, resized.

    DataError for one of another shape than the photograph, and where nothing tells how it stands.
    """
    picture, camera = view.picture, view.camera
    height, width = mask.shape
    stored = (camera.width, camera.height) if picture is None else (picture.width, picture.height)
    fits = [_off_shape(width, height, *size) < SHAPE_SLACK for size in (stored, stored[::-1])]
    turns: tuple[int, ...] | None = ()
    if picture is not None:
        turns = picture.mask_turns(width, height, None)
    upright_only = picture is None or picture.orientation == 1
    if not fits[0] and (upright_only or not fits[1]):
        raise DataError(
            f"{path}: {width}x{height} pixels do not have the shape of {view.name}, "
            f"{stored[0]}x{stored[1]}"
        )
    if turns is None:
        raise DataError(
            f"{path}: {width}x{height} pixels do not tell how the mask stands on {view.name}; "
            "--mask_orientation says it"
        )
    if picture is None:
        return resize_nearest(mask, (camera.height, camera.width))
    return picture.label_map(mask.astype(np.int32), camera, turns) == 1


def _off_shape(width: int, height: int, other_width: int, other_height: int) -> float:
    """By what share the aspect ratios of two sizes differ."""
    return abs(width / height * other_height / other_width - 1)
