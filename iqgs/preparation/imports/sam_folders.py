# SPDX-License-Identifier: Apache-2.0
"""What the script amg.py of segment-anything writes: `<image>/{0,1,...}.png` and a metadata.csv."""

from __future__ import annotations

from pathlib import Path

from iqgs.preparation.imports.lerf import Binary
from iqgs.preparation.imports.records import AnnotatedImage, Annotation, Export
from scene.readers.colmap.reading import natural_key
from utils.images import image_size

TABLE = "metadata.csv"


def find_folder(path: Path) -> Path | None:
    """The folder of the images' folders."""
    return path if path.is_dir() and _folders(path) else None


def _folders(path: Path) -> list[Path]:
    return sorted(
        table.parent for table in path.glob(f"*/{TABLE}") if next(table.parent.glob("*.png"), None)
    )


def read_folder(path: Path) -> Export:
    """The masks of all images; their numbers mean nothing. Raises DataError."""
    images = []
    for folder in _folders(path):
        files = sorted(folder.glob("*.png"), key=lambda file: natural_key(file.name))
        width, height = image_size(files[0])
        shapes = tuple(Annotation(Binary(file), "") for file in files)
        images.append(AnnotatedImage(folder.name, (height, width), shapes))
    return Export("SAM's amg.py", path, tuple(images))
