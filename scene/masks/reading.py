# SPDX-License-Identifier: Apache-2.0
"""The masks of one image at its camera's size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scene.cameras import Camera
from scene.masks.findings import refuse_errors, shape_finding
from scene.masks.formats import IdPixels, read_mask_file
from scene.masks.ids import IdTable
from scene.masks.orientation import mask_turns
from scene.masks.records import InstanceMasks, MaskLayers
from scene.pictures import StoredPicture
from utils.errors import MaskError
from utils.orientation import SWAPPING


@dataclass(frozen=True, eq=False)
class ReadMask:
    """One mask file after its first reading: K different values."""

    name: str  # of the image
    path: Path
    coding: str  # as of MaskContent
    values: NDArray[np.int64]  # [K] ascending
    areas: NDArray[np.int64]  # [K] pixels of each
    pixels: IdPixels | None  # None: to be read again where they are needed
    palette: NDArray[np.uint8] | None  # [K, 3]
    is_list: bool  # of masks that may overlap

    @property
    def has_colors(self) -> bool:
        """Whether any colour is not gray."""
        if self.coding != "colors":
            return False
        red, green, blue = (self.values >> shift & 255 for shift in (16, 8, 0))
        return bool(((red != green) | (red != blue)).any())


def first_reading(name: str, path: Path) -> ReadMask:
    """The mask file of the image `name`, read whole. Raises DataError."""
    content = read_mask_file(path)
    pixels = content.flat()
    return ReadMask(
        name,
        path,
        content.coding,
        pixels.values,
        pixels.areas,
        pixels,
        content.palette,
        content.layers is not None,
    )


def read_masks(
    path: Path,
    camera: Camera,
    table: IdTable,
    picture: StoredPicture | None = None,
    *,
    read: ReadMask | None = None,
) -> InstanceMasks:
    """The masks of a file as the camera sees them, with compact ids. Raises DataError.

    picture: the view's photograph, which says how the file's pixels become the camera's; None:
    they are resampled. Pixels that it does not show are -1. read: what was read of the file
    before; its pixels are used where they were kept.
    """
    pixels, numbers = numbered_pixels(path, table, read)
    try:
        compact = table.to_compact(numbers)
    except MaskError as error:  # the file has changed since the table was made
        raise MaskError(f"{path}: {error}", error.kind) from error
    return InstanceMasks.from_label_map(_placed(path, pixels, compact, camera, picture))


def read_label_map(
    path: Path,
    camera: Camera,
    table: IdTable,
    picture: StoredPicture | None = None,
    *,
    read: ReadMask | None = None,
) -> NDArray[np.int32]:
    """The same in the files' own numbers: [H, W] int32, 0 = no instance, -1 = no target."""
    pixels, numbers = numbered_pixels(path, table, read)
    return _placed(path, pixels, numbers.astype(np.int32), camera, picture)


def read_layers(path: Path, camera: Camera, picture: StoredPicture | None = None) -> MaskLayers:
    """The masks of a file, which may overlap, as the camera sees them. Raises DataError.

    A label map has one for each id. Sources are the file's own numbers.
    """
    layers = read_mask_file(path).as_layers()
    turns = checked_turns(path, (layers.width, layers.height), camera, picture)
    if picture is None:
        return layers.resized(camera.width, camera.height)

    def placed(mask: NDArray[np.bool_], unknown: bool) -> NDArray[np.bool_]:
        seen = picture.label_map(mask.astype(np.int32), camera, turns)
        return seen == 1 if not unknown else seen != 0

    return layers.mapped(placed, camera.width, camera.height)


def checked_turns(
    path: Path, size: tuple[int, int], camera: Camera, picture: StoredPicture | None
) -> tuple[int, ...]:
    """`mask_turns` of a mask of `size`; MaskError where its shape does not fit then."""
    turns = mask_turns(path, size, picture)
    seen = None if picture is None else picture.seen_size
    finding = shape_finding(path, turned_size(size, turns), camera, seen)
    if finding is not None:
        refuse_errors([finding])
    return turns


def turned_size(size: tuple[int, int], turns: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) after these EXIF codes."""
    return size[::-1] if len(SWAPPING.intersection(turns)) % 2 else size


def _placed(
    path: Path,
    pixels: IdPixels,
    numbers: NDArray[np.int32],
    camera: Camera,
    picture: StoredPicture | None,
) -> NDArray[np.int32]:
    """The map [H, W] of a file with numbers [K] in the place of its values."""
    turns = checked_turns(path, pixels.size, camera, picture)
    if picture is None or (picture.lens is None and not turns):
        return pixels.renumbered(numbers, camera.width, camera.height)
    return picture.label_map(pixels.renumbered(numbers, *pixels.size), camera, turns)


def numbered_pixels(
    path: Path, table: IdTable, read: ReadMask | None
) -> tuple[IdPixels, NDArray[np.int64]]:
    """A file's pixels, and what their K values mean in the files' numbers [K]. DataError."""
    if read is not None and read.pixels is not None:
        pixels, coding = read.pixels, read.coding
    else:
        content = read_mask_file(path)
        pixels, coding = content.flat(), content.coding
    try:
        return pixels, table.numbers_of(pixels.values, coding)
    except MaskError as error:
        raise MaskError(f"{path}: {error}", error.kind) from error
