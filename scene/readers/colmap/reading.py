# SPDX-License-Identifier: Apache-2.0
"""Which of a scene's COLMAP models is read, and the model as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scene.readers.colmap.binary import (
    count_images_binary,
    read_cameras_binary,
    read_images_binary,
    read_observations_binary,
    read_points_binary,
    read_tracks_binary,
)
from scene.readers.colmap.model import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    Observations,
    Tracks,
    check_unique,
)
from scene.readers.colmap.text import (
    count_images_text,
    read_cameras_text,
    read_images_text,
    read_observations_text,
    read_points_text,
    read_tracks_text,
)
from utils.errors import DataError, FormatError, UserError

# Where programs leave models: colmap/ is ScanNet++'s; the scene's own folder last (hloc).
MODEL_PLACES = ("sparse", "colmap/sparse", "colmap", "")


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """What is read of a model: cameras by id, images in the order of the file, points if any."""

    cameras: dict[int, ColmapCamera]
    images: tuple[ColmapImage, ...]
    points: ColmapPoints | None
    folder: Path  # its files, which the methods read again: nobody else pays for tracks

    def tracks(self) -> Tracks:
        """Which images see which points; empty without a file of points.

        Raises DataError or FormatError. Reads the file at each call.
        """
        if (self.folder / "points3D.bin").is_file():
            return read_tracks_binary(self.folder / "points3D.bin")
        if (self.folder / "points3D.txt").is_file():
            return read_tracks_text(self.folder / "points3D.txt")
        nothing = np.zeros(0, np.int64)
        return Tracks(nothing, nothing, nothing)

    def observations(self) -> dict[int, Observations]:
        """The key points of every image by its id, in pixels of the photographs as they were taken.

        Raises DataError or FormatError. Reads the file at each call.
        """
        if is_binary(self.folder):
            return read_observations_binary(self.folder / "images.bin")
        return read_observations_text(self.folder / "images.txt")


def is_binary(folder: Path) -> bool:
    """Whether the binary files are read: they are both there."""
    return (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file()


def is_model(folder: Path) -> bool:
    """Whether the folder holds a COLMAP model, by its list of images."""
    return (folder / "images.bin").is_file() or (folder / "images.txt").is_file()


def count_images(folder: Path) -> int:
    """How many images a model has, without reading all of it where it is binary."""
    if is_binary(folder):
        return count_images_binary(folder / "images.bin")
    if not (folder / "images.txt").is_file():
        raise DataError(f"{folder}: expected cameras.bin and images.bin, or both as .txt")
    return count_images_text(folder / "images.txt")


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts 2 before 10; no two names have the same one, as 1 and 01 would."""
    parts = re.split(r"([0-9]+)", name)
    key = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return [*key, (-2, name)]


def models_in(place: Path) -> list[Path]:
    """A place that is a model itself, then the models in its sub-folders, in natural order."""
    found = [place] if is_model(place) else []
    if place.is_dir():
        below = sorted(place.iterdir(), key=lambda path: natural_key(path.name))
        found += [path for path in below if path.is_dir() and is_model(path)]
    return found


def find_colmap_folder(
    source_path: Path,
    wanted: str,
    notices: list[str],
    model_places: Sequence[str] = MODEL_PLACES,
) -> Path | None:
    """The folder of the scene's model in one of the places, or None if there is none.

    COLMAP numbers the parts into which a reconstruction breaks: the one with most images is taken,
    or the one named by --sparse (`wanted`), and a notice says what was left out. UserError if there
    is no model of the wanted name.
    """
    places = {place: source_path / place for place in model_places}
    found = {p: models_in(root) if p else [root] for p, root in places.items()}
    found = {place: [m for m in models if is_model(m)] for place, models in found.items()}
    if wanted:
        for root in places.values():
            if is_model(root / wanted):
                return root / wanted
        held = _with_counts([m for models in found.values() for m in models], source_path)
        raise UserError(
            f"--sparse {wanted}: no such model in {source_path}; it has {held or 'none'}"
        )
    models = next((models for models in found.values() if models), [])
    if len(models) < 2:
        return models[0] if models else None
    largest = max(models, key=count_images)
    rest = [path for path in models if path != largest]
    notices.append(
        f"of several COLMAP models the largest is used, {_with_counts([largest], source_path)}; "
        f"left out: {_with_counts(rest, source_path)}; --sparse NAME takes another"
    )
    return largest


def _with_counts(folders: list[Path], root: Path) -> str:
    return ", ".join(
        f"{folder.relative_to(root).as_posix()} ({count_images(folder)} images)"
        for folder in folders
    )


def read_colmap_model(folder: Path) -> ColmapModel:
    """Read cameras, images and points; the binary files if they are there, else the text files.

    Raises DataError if files are missing, FormatError (file and place) if one is damaged, has a
    camera that no pinhole can show, or names images outside the images folder. Missing points are
    None.
    """
    if is_binary(folder):
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
    return ColmapModel(cameras, images, _read_points(folder), folder)


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
