# SPDX-License-Identifier: Apache-2.0
"""Shapes of annotation tools as functions that draw them: polygons, run-length codes, bitmaps."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iqgs.preparation.imports.records import Bools, Size
from scene.masks.formats.documents import mask_of
from scene.masks.formats.pictures import read_exact
from scene.masks.formats.rle import polygon_mask
from utils.images import IMAGE_FAULTS, MAX_PIXELS

MOST_BYTES = 64_000_000  # of one unpacked bitmap
Draw = Callable[[Size], Bools]
Floats = NDArray[np.float64]


def polygon(corners: Sequence[Sequence[float]], holes: Sequence[Any] = ()) -> Draw:
    """The inside of a ring of corners (x, y) in pixels, without that of the holes.

    ValueError for a ring of fewer than three corners, or of numbers that are no positions.
    """
    ring = _ring(corners)
    inner = [_ring(hole) for hole in holes]

    def draw(size: Size) -> Bools:
        mask = polygon_mask([ring], *size)
        return mask & ~polygon_mask(inner, *size) if inner else mask

    return draw


def relative_polygon(corners: Sequence[Sequence[float]]) -> Draw:
    """The same with corners in shares of the image's width and height."""
    ring = _ring(corners)
    return lambda size: polygon_mask([ring * [size[1], size[0]]], *size)


def _ring(corners: Sequence[Sequence[float]]) -> Floats:
    ring = np.array(corners, np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not (np.abs(ring) < 1e7).all():
        raise ValueError("a polygon needs three corners (x, y) or more, in pixels")
    return ring


def coco_segmentation(segmentation: Any) -> Draw:
    """COCO's polygons, or its run-length code, whose size must be the image's."""

    def draw(size: Size) -> Bools:
        if isinstance(segmentation, dict) and segmentation.get("size") not in (list(size), None):
            raise ValueError(f"a run-length code of size {segmentation.get('size')}")
        return mask_of(segmentation, size)

    return draw


def row_runs(counts: Sequence[int], box: tuple[int, int, int, int]) -> Draw:
    """Runs along the rows of a box (left, top, width, height), the first and what is left empty."""
    left, top, width, height = box
    lengths = np.array(counts, np.int64)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"a mask in a box of {width}x{height} pixels")
    if (lengths < 0).any() or (lengths > MAX_PIXELS).any() or lengths.sum() > width * height:
        raise ValueError(f"runs that do not fit into {width}x{height} pixels")
    inside = np.zeros(width * height, bool)
    filled = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    inside[: filled.size] = filled
    part = np.packbits(inside)
    return lambda size: pasted(_unpacked(part, height, width), (left, top), size)


def bitmap(data: str, origin: tuple[int, int]) -> Draw:
    """A PNG, deflated and in base64, whose left upper corner is at `origin` (x, y).

    It is drawn when it is needed; ValueError then where it is damaged.
    """

    def draw(size: Size) -> Bools:
        try:
            packed = base64.b64decode(data, validate=True)
            engine = zlib.decompressobj()
            picture = engine.decompress(packed, MOST_BYTES)
            if not engine.eof:
                raise ValueError("a bitmap that is too large or cut off")
            with Image.open(io.BytesIO(picture), formats=("PNG",)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"a bitmap of {image.width}x{image.height} pixels")
                pixels = np.asarray(image)
        except (binascii.Error, zlib.error, *IMAGE_FAULTS) as error:
            raise ValueError(f"a damaged bitmap ({error})") from error
        if pixels.ndim == 3:  # colours mean nothing, transparency does
            pixels = pixels[..., -1] if pixels.shape[2] in (2, 4) else pixels.max(axis=2)
        return pasted(pixels != 0, origin, size)

    return draw


def picture_values(path: Path, values: NDArray[np.integer] | int) -> Draw:
    """The pixels of a picture of masks that have one of these values (colours as 0xRRGGBB)."""

    def draw(size: Size) -> Bools:
        return np.isin(picture_codes(path), values)

    return draw


def picture_codes(path: Path) -> NDArray[np.int64]:
    """Values [H, W] of a picture: colours as 0xRRGGBB, also those of a palette. DataError."""
    picture = read_exact(path)
    pixels = picture.pixels
    if picture.palette is not None and pixels.max() < len(picture.palette):
        pixels = picture.palette[pixels.astype(np.int64)]
    codes = pixels.astype(np.int64)
    return codes @ np.array([1 << 16, 1 << 8, 1]) if codes.ndim == 3 else codes


def pasted(part: Bools, origin: tuple[int, int], size: Size) -> Bools:
    """A part [h, w] at (x, y) of an image [height, width]; what lies outside is cut off."""
    mask = np.zeros(size, bool)
    left, top = origin
    first = max(0, -left), max(0, -top)
    inside = part[first[1] : size[0] - top, first[0] : size[1] - left]
    if left < size[1] and top < size[0] and inside.size:
        row, column = top + first[1], left + first[0]
        mask[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return mask


def _unpacked(bits: NDArray[np.uint8], height: int, width: int) -> Bools:
    return np.unpackbits(bits, count=height * width).reshape(height, width).view(bool)
