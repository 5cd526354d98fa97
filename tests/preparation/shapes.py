# SPDX-License-Identifier: Apache-2.0
"""Masks and scenes of a few pixels for the tests of the tools that make and read masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from scene.masks import MaskLayers
from scene.readers.colmap import write_colmap_model
from tests.scene.conftest import make_model

SIZE = (40, 30)  # width, height


def box(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Mask [H, W] of a rectangle, right and bottom outside."""
    mask = np.zeros(size[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


def pile(*masks: np.ndarray, score: Sequence[float] | None = None) -> MaskLayers:
    """Masks [H, W] as layers, numbered from 1."""
    bits = np.array([np.packbits(mask) for mask in masks], np.uint8)
    scores = None if score is None else np.array(score)
    return MaskLayers.from_bits(masks[0].shape, bits, score=scores)


def write_scene(
    folder: Path, names: Sequence[str], size: tuple[int, int] = SIZE, orientation: int = 1
) -> Path:
    """A scene with poses: photographs with two gray boxes, of 200 and of 120, on black."""
    write_colmap_model(folder / "sparse/0", *make_model(list(names), size), binary=True)
    for name in names:
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[4:14, 4:16] = 200
        pixels[16:26, 20:36] = 120
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(pixels).save(path, exif=exif.tobytes(), quality=100)
    return folder
