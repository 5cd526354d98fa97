# SPDX-License-Identifier: Apache-2.0
"""Masks of LERF-Mask: `test_mask/<view>/<prompt>.png`, white inside; a prompt names an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from iqgs.preparation.imports.records import AnnotatedImage, Annotation, Bools, Export, Size
from iqgs.preparation.imports.shapes import picture_codes
from utils.images import image_size

FOLDER = "test_mask"
WHITE = 128  # of 255: its own evaluation cuts there


def find_folder(path: Path) -> Path | None:
    """The folder of the views."""
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    return folder if folder.is_dir() and _masks(folder) else None


def _masks(folder: Path) -> list[Path]:
    """`<view>/<prompt>.png`; empty where any is named after a number, as masks of ids are."""
    files = sorted(folder.glob("*/*.png"))
    if any(path.stem.isdecimal() for path in files) or list(folder.glob("*.png")):
        return []
    return files


def read_folder(folder: Path) -> Export:
    """The masks of all views. Raises DataError."""
    views: dict[str, list[Path]] = {}
    for path in _masks(folder):
        views.setdefault(path.parent.name, []).append(path)
    images = []
    for view, paths in views.items():
        width, height = image_size(paths[0])
        shapes = tuple(Annotation(Binary(path), path.stem, track=path.stem) for path in paths)
        images.append(AnnotatedImage(view, (height, width), shapes))
    return Export("LERF-Mask", folder, tuple(images))


class Binary:
    """Draws a black and white picture, at the size of the first one of its view."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, size: Size) -> Bools:
        codes = picture_codes(self.path)
        # Colours are 0xRRGGBB: white in any channel is white.
        brightest = np.max([codes >> shift & 255 for shift in (16, 8, 0)], axis=0)
        return np.asarray(brightest >= WHITE if brightest.max() > 1 else brightest > 0)
