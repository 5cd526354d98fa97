# SPDX-License-Identifier: Apache-2.0
"""The mask files that belong to the images of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from scene.cameras import Camera
from scene.masks.ids import IdTable
from scene.masks.records import InstanceMasks
from utils.errors import DataError
from utils.images import id_map_size, read_id_map, resize_id_map

# A mask whose shape differs by more belongs to another image (a one-pixel rounding does not).
MAX_ASPECT_ERROR = 0.01


def find_mask_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Mask file of each image that has one: `<folder>/<image name without its last suffix>.png`.

    Also accepted: the name cut at its first dot, and the name without its sub-folder (both as
    Gaussian Grouping writes them). Raises DataError naming two images that share a mask file.
    """
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        path = next((p for p in _mask_candidates(folder, name) if p.is_file()), None)
        if path is None:
            continue
        if path in owners:
            raise DataError(
                f"{path}: images {owners[path]!r} and {name!r} would both use this mask; "
                "keep the sub-folders of the images in the mask folder"
            )
        owners[path] = name
        found[name] = path
    return found


def _mask_candidates(folder: Path, name: str) -> list[Path]:
    path = PurePosixPath(name)
    first_dot = path.name.split(".")[0] or path.stem
    return [
        folder / path.parent / f"{path.stem}.png",
        folder / path.parent / f"{first_dot}.png",
        folder / f"{path.stem}.png",
        folder / f"{first_dot}.png",
    ]


def check_mask_shape(path: Path, camera: Camera) -> None:
    """DataError if the mask file's aspect ratio is not that of the camera's image."""
    width, height = id_map_size(path)
    error = abs((width * camera.height) / (height * camera.width) - 1)
    expected = camera.height * width / camera.width
    if error > MAX_ASPECT_ERROR and abs(expected - height) > 1:
        raise DataError(
            f"{path}: the mask has {width}x{height} pixels but image {camera.name!r} is rendered "
            f"with {camera.width}x{camera.height}; the aspect ratios differ by {error:.1%}"
        )


def read_masks(path: Path, camera: Camera, table: IdTable | None) -> InstanceMasks:
    """The masks of a file at the camera's size; ids compact if a table is given, else as filed."""
    check_mask_shape(path, camera)
    ids = resize_id_map(read_id_map(path), camera.width, camera.height)
    return InstanceMasks.from_label_map(ids if table is None else table.to_compact(ids))
