# SPDX-License-Identifier: Apache-2.0
"""Scans whose poses are text files: ScanNet's export, and ScanNet and Replica as the data of
Panoptic Lifting (Siddiqui et al., CVPR 2023) has them.

    color/NAME.jpg                   photographs
    pose/NAME.txt                    4x4, camera to world; x right, y down, z forward
    intrinsic/intrinsic_color.txt    3x3 or 4x4, of the photographs' size
    splits.json                      {"train": [NAME, ...], "test": [...]}, need not be there
    rs_instance/NAME.png             true instances, and others under other names: see --object_path

Depth maps, semantic classes and segmentation_data.pkl are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arguments import ModelParams
from scene.cameras import Camera
from scene.readers.photo_files import PHOTO_SUFFIXES, listed, photographs_in
from scene.readers.posed import PosedImage, SceneFiles
from scene.readers.transforms import bare_name, with_split
from scene.readers.transforms_camera import world_to_view
from utils.errors import DataError, FormatError
from utils.images import image_size
from utils.json_files import read_json

PHOTOGRAPHS, POSES, INTRINSICS = "color", "pose", "intrinsic/intrinsic_color.txt"
SPLITS = "splits.json"
_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def is_scan(source_path: Path) -> bool:
    """Whether the folder has poses and intrinsics as text files."""
    return (source_path / POSES).is_dir() and (source_path / INTRINSICS).is_file()


def read_scan(params: ModelParams, notices: list[str]) -> SceneFiles:
    """All photographs that have a pose, with the scan's own split. DataError, FormatError.

    Poses that are not finite (where ScanNet's tracking was lost) are left out with a notice.
    """
    source = Path(params.source_path)
    folder = source / (PHOTOGRAPHS if params.images == ModelParams.images else params.images)
    names = photographs_in(folder)
    if not names:
        raise DataError(f"{folder}: no photographs; -i names their folder in a scan")
    matrix = _matrix(source / INTRINSICS)
    images, without = [], []
    for name in names:
        path = source / POSES / f"{bare_name(name)}.txt"
        pose = _matrix(path) if path.is_file() else np.full((4, 4), np.nan)
        if np.isfinite(pose).all():
            images.append(_posed_image(folder / name, name, pose, matrix, path))
        else:
            without.append(name)
    if not images:
        raise DataError(f"{source / POSES}: none of the {len(names)} photographs has a pose")
    if without:
        notices.append(
            f"{len(without)} of {len(names)} photographs have no pose or one that is not finite in "
            f"{source / POSES} and are left out: {listed(without)}"
        )
    if params.eval and (source / SPLITS).is_file():
        images = with_split(images, source / SPLITS, named_split(source / SPLITS), notices)
    meshes = sorted(source.glob("*_vh_clean_2.ply"))
    clouds = (source / "points3d.ply", source / "points3D.ply", *meshes, source / "mesh.ply")
    return SceneFiles("scan", images, folder, None, clouds)


def _posed_image(
    path: Path, name: str, pose: NDArray[np.float64], intrinsics: NDArray[np.float64], file: Path
) -> PosedImage:
    width, height = image_size(path)
    fx, fy = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    if not (np.isfinite(intrinsics).all() and fx > 0 and fy > 0):
        raise FormatError(f"{file.parents[1] / INTRINSICS}: focal lengths must be positive")
    # Pixel centres of these files are whole numbers, COLMAP's are halves.
    cx, cy = float(intrinsics[0, 2]) + 0.5, float(intrinsics[1, 2]) + 0.5
    view: torch.Tensor = world_to_view(pose @ _TO_OPENGL, str(file))
    return PosedImage(Camera(view, fx, fy, cx, cy, width, height, name, 0), path)


def named_split(path: Path) -> tuple[set[str], set[str]]:
    """Names without suffix, in training and held out; `val` stands in where there is no `test`.

    Of a file {"train": [...], "test": [...]}. Raises DataError, FormatError.
    """
    record, lists = read_json(path), []
    for keys in (("train",), ("test", "val")):
        names: Any = next((record[key] for key in keys if key in record), [])
        if not isinstance(names, list):
            raise FormatError(f"{path}: {keys[0]!r} must be a list of names")
        lists.append({_without_suffix(str(name)) for name in names})
    if not any(lists):
        raise FormatError(f"{path}: expected lists 'train' and 'test' of names")
    return lists[0], lists[1]


def _without_suffix(name: str) -> str:
    return bare_name(name) if Path(name).suffix.lower() in PHOTO_SUFFIXES else name


def _matrix(path: Path) -> NDArray[np.float64]:
    """Rows of numbers, [3, 3], [3, 4] or [4, 4]; inf and nan are numbers. FormatError."""
    try:
        words = path.read_text(encoding="utf-8").split("\n")
        matrix = np.array([[float(w) for w in line.split()] for line in words if line.strip()])
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: not a matrix of numbers ({error})") from error
    if matrix.shape not in ((3, 3), (3, 4), (4, 4)):
        raise FormatError(f"{path}: expected a matrix of 4 x 4 numbers, found {matrix.shape}")
    return matrix
