# SPDX-License-Identifier: Apache-2.0
"""Strict reading and plain writing of COLMAP models (a folder such as <scene>/sparse/0)."""

from __future__ import annotations

from pathlib import Path

from scene.readers.colmap.binary import (
    write_cameras_binary,
    write_images_binary,
    write_points_binary,
)
from scene.readers.colmap.model import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    Observations,
    Tracks,
    check_image_name,
    check_unique,
)
from scene.readers.colmap.reading import ColmapModel, find_colmap_folder, read_colmap_model
from scene.readers.colmap.text import (
    write_cameras_text,
    write_images_text,
    write_points_text,
)

__all__ = [
    "ColmapCamera",
    "ColmapImage",
    "ColmapModel",
    "ColmapPoints",
    "Observations",
    "Tracks",
    "check_image_name",
    "check_unique",
    "find_colmap_folder",
    "read_colmap_model",
    "write_colmap_model",
]


def write_colmap_model(
    folder: Path,
    cameras: list[ColmapCamera],
    images: list[ColmapImage],
    points: ColmapPoints,
    binary: bool = True,
) -> None:
    """Write a model (no tracks, no observations) into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    if binary:
        write_cameras_binary(folder / "cameras.bin", cameras)
        write_images_binary(folder / "images.bin", images)
        write_points_binary(folder / "points3D.bin", points)
    else:
        write_cameras_text(folder / "cameras.txt", cameras)
        write_images_text(folder / "images.txt", images)
        write_points_text(folder / "points3D.txt", points)
