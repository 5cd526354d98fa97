# SPDX-License-Identifier: Apache-2.0
"""The mask files that belong to the images of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from scene.cameras import Camera
from scene.masks.ids import IdTable
from scene.masks.orientation import mask_turns
from scene.masks.records import InstanceMasks
from scene.pictures import StoredPicture
from utils.errors import DataError
from utils.images import id_map_size, read_id_map, resize_id_map
from utils.orientation import SWAPPING

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


def check_mask_shape(path: Path, camera: Camera, picture: StoredPicture | None = None) -> None:
    """DataError if the mask file's aspect ratio is not that of the camera's image.

    `picture` is the view's photograph: masks have the aspect of what its poses see.
    """
    width, height = id_map_size(path)
    turns = mask_turns(path, picture)
    if len(SWAPPING.intersection(turns)) % 2:
        width, height = height, width
    shown = (camera.width, camera.height) if picture is None else picture.seen_size
    error = abs((width * shown[1]) / (height * shown[0]) - 1)
    expected = shown[1] * width / shown[0]
    if error > MAX_ASPECT_ERROR and abs(expected - height) > 1:
        raise DataError(
            f"{path}: the mask has {width}x{height} pixels but image {camera.name!r} has "
            f"{shown[0]}x{shown[1]}; the aspect ratios differ by {error:.1%}"
        )


def read_masks(
    path: Path, camera: Camera, table: IdTable | None, picture: StoredPicture | None = None
) -> InstanceMasks:
    """The masks of a file at the camera's size; ids compact if a table is given, else as filed.

    Pixels that the view's photograph does not show are -1: no target.
    """
    check_mask_shape(path, camera, picture)
    ids = read_id_map(path)
    if table is not None:
        ids = table.to_compact(ids)
    if picture is None:
        ids = resize_id_map(ids, camera.width, camera.height)
    else:
        ids = picture.label_map(ids, camera, mask_turns(path, picture))
    return InstanceMasks.from_label_map(ids)
