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
from scene.masks.records import InstanceMasks, MaskLayers, present_ids
from utils.errors import MaskError


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
    path: Path, camera: Camera, table: IdTable, *, read: ReadMask | None = None
) -> InstanceMasks:
    """The masks of a file at the camera's size, with compact ids. Raises DataError.

    read: what was read of the file before; its pixels are used where they were kept.
    """
    pixels, numbers = numbered_pixels(path, table, read)
    _check_shape(path, pixels.size, camera)
    try:
        compact = table.to_compact(numbers)
    except MaskError as error:  # the file has changed since the table was made
        raise MaskError(f"{path}: {error}", error.kind) from error
    label_map = pixels.renumbered(compact, camera.width, camera.height)
    if pixels.size == (camera.width, camera.height):  # no id can have got lost
        ids = tuple(sorted({int(number) for number in compact if number > 0}))
        return InstanceMasks(label_map, ids)
    return InstanceMasks(label_map, present_ids(label_map))


def read_label_map(
    path: Path, camera: Camera, table: IdTable, *, read: ReadMask | None = None
) -> NDArray[np.int32]:
    """The same in the files' own numbers: [H, W] int32, 0 = no instance, -1 = no target."""
    pixels, numbers = numbered_pixels(path, table, read)
    _check_shape(path, pixels.size, camera)
    return pixels.renumbered(numbers.astype(np.int32), camera.width, camera.height)


def read_layers(path: Path, camera: Camera) -> MaskLayers:
    """The masks of a file, which may overlap, at the camera's size. Raises DataError.

    A label map has one for each id. Sources are the file's own numbers.
    """
    layers = read_mask_file(path).as_layers()
    _check_shape(path, (layers.width, layers.height), camera)
    return layers.resized(camera.width, camera.height)


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


def _check_shape(path: Path, size: tuple[int, int], camera: Camera) -> None:
    finding = shape_finding(path, size, camera)
    if finding is not None:
        refuse_errors([finding])
