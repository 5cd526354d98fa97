# SPDX-License-Identifier: Apache-2.0
"""Strict reading and plain writing of COLMAP models (a folder such as <scene>/sparse/0)."""

from __future__ import annotations

from pathlib import Path

from scene.readers.colmap.binary import (
    read_cameras_binary,
    read_images_binary,
    read_points_binary,
    write_cameras_binary,
    write_images_binary,
    write_points_binary,
)
from scene.readers.colmap.model import (
    ColmapCamera,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
    check_image_name,
    check_unique,
)
from scene.readers.colmap.text import (
    read_cameras_text,
    read_images_text,
    read_points_text,
    write_cameras_text,
    write_images_text,
    write_points_text,
)
from utils.errors import DataError, FormatError

__all__ = [
    "ColmapCamera",
    "ColmapImage",
    "ColmapModel",
    "ColmapPoints",
    "check_image_name",
    "find_colmap_folder",
    "read_colmap_model",
    "write_colmap_model",
]


def find_colmap_folder(source_path: Path) -> Path | None:
    """The folder of the scene's model: sparse/0, or sparse itself; None if there is neither."""
    for folder in (source_path / "sparse" / "0", source_path / "sparse"):
        if any((folder / name).is_file() for name in ("images.bin", "images.txt")):
            return folder
    return None


def read_colmap_model(folder: Path) -> ColmapModel:
    """Read cameras, images and points; the binary files if they are there, else the text files.

    Raises DataError if files are missing, FormatError (file and place) if one is damaged, holds
    a lens with distortion, or names images outside the images folder. Missing points are None.
    """
    if (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file():
        cameras = read_cameras_binary(folder / "cameras.bin")
        images = read_images_binary(folder / "images.bin")
        images_file = folder / "images.bin"
    elif (folder / "cameras.txt").is_file() and (folder / "images.txt").is_file():
        cameras = read_cameras_text(folder / "cameras.txt")
        images = read_images_text(folder / "images.txt")
        images_file = folder / "images.txt"
    else:
        raise DataError(f"{folder}: expected cameras.bin and images.bin, or both as .txt")
    _check_images(images, cameras, images_file)
    return ColmapModel(cameras=cameras, images=images, points=_read_points(folder))


def _check_images(
    images: tuple[ColmapImage, ...], cameras: dict[int, ColmapCamera], file: Path
) -> None:
    if not images:
        raise FormatError(f"{file}: the model has no images")
    check_unique([image.id for image in images], "image id", str(file))
    check_unique([image.name for image in images], "image name", str(file))
    for image in images:
        if image.camera_id not in cameras:
            raise FormatError(
                f"{file}: image {image.name!r} uses camera {image.camera_id}, which is not there"
            )


def _read_points(folder: Path) -> ColmapPoints | None:
    if (folder / "points3D.bin").is_file():
        return read_points_binary(folder / "points3D.bin")
    if (folder / "points3D.txt").is_file():
        return read_points_text(folder / "points3D.txt")
    return None


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
