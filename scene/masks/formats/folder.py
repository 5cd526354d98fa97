# SPDX-License-Identifier: Apache-2.0
"""A folder of binary masks for one image: `<id>.png`, white or 1 inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scene.masks.formats.arrays import MOST_LAYER_PIXELS
from scene.masks.formats.content import MaskContent
from scene.masks.formats.pictures import read_exact
from scene.masks.records import LARGEST_ID, MaskLayers
from utils.errors import DataError, MaskError
from utils.images import write_pixels
from utils.storage import atomic_folder

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp")


def mask_number(path: Path) -> int:
    """The id that a file of such a folder is named after; 0 where it is no picture `<id>`."""
    stem = path.stem
    fits = path.suffix.lower() in SUFFIXES and stem.isascii() and stem.isdecimal()
    return int(stem) if fits and len(stem) <= 10 and int(stem) <= LARGEST_ID else 0


def numbered_files(folder: Path) -> list[Path]:
    """The masks of a folder by id; empty where any other file lies in it."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if not all(mask_number(path) and path.is_file() for path in files):
        return []
    return sorted(files, key=mask_number)


def read_folder(path: Path) -> MaskContent:
    """The masks of a folder as layers whose sources are the ids. DataError."""
    files = numbered_files(path)
    if not files:
        raise MaskError(f"{path}: expected a folder of binary masks <id>.png", "unreadable")
    first = _read_binary(files[0])
    if len(files) * first.size > MOST_LAYER_PIXELS:
        raise MaskError(f"{path}: too many pixels ({len(files)} masks)", "unreadable")
    packed = np.zeros((len(files), -(-first.size // 8)), np.uint8)
    for row, file in enumerate(files):
        mask = first if row == 0 else _read_binary(file)
        if mask.shape != first.shape:
            raise DataError(
                f"{file}: {mask.shape[1]}x{mask.shape[0]} pixels, but {files[0].name} beside it "
                f"has {first.shape[1]}x{first.shape[0]}"
            )
        packed[row] = np.packbits(mask)
    height, width = first.shape
    ids = np.array([mask_number(file) for file in files])
    return MaskContent.of_layers(MaskLayers.from_bits((height, width), packed, ids), "ids")


def _read_binary(path: Path) -> np.ndarray:
    """One mask, bool [H, W]: a picture of 0 and one other value."""
    pixels = read_exact(path).pixels
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2)
    values = np.unique(pixels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise MaskError(
            f"{path}: expected a binary mask (0 and 255), found {len(values)} different values",
            "ids",
        )
    return np.asarray(pixels != 0)


def write_folder(path: Path, content: MaskContent) -> None:
    """One picture (0, 255) for each mask; masks of one id become one. RunError."""
    layers = content.as_layers()
    with atomic_folder(path) as folder:
        for number in np.unique(layers.source):
            rows = np.flatnonzero(layers.source == number)
            mask = np.any([layers.mask(int(row)) for row in rows], axis=0)
            write_pixels(folder / f"{number}.png", mask.astype(np.uint8) * np.uint8(255))
