# SPDX-License-Identifier: Apache-2.0
"""Scenes in the form of NeRF's synthetic data: transforms_train.json and transforms_test.json.

Poses are camera-to-world in OpenGL's convention (x right, y up, z backward).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scene.cameras import Camera, PosedImage
from scene.readers.colmap.model import check_image_name
from utils.errors import FormatError
from utils.images import image_size
from utils.json_files import read_json

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
# OpenGL's camera axes (right, up, backward) in terms of COLMAP's (right, down, forward).
_OPENGL_TO_COLMAP = np.diag([1.0, -1.0, -1.0, 1.0])


def is_blender_scene(source_path: Path) -> bool:
    """Whether the folder has a transforms_train.json."""
    return (source_path / "transforms_train.json").is_file()


def read_blender_scene(source_path: Path) -> list[PosedImage]:
    """All posed images of both files; those of transforms_test.json are marked as held out.

    Raises DataError or FormatError naming the file, and the frame where there is one.
    """
    images = _read_transforms(source_path, "transforms_train.json", held_out=False)
    if (source_path / "transforms_test.json").is_file():
        images += _read_transforms(source_path, "transforms_test.json", held_out=True)
    names = [image.camera.name for image in images]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{source_path}: image {twice!r} is listed twice in the transforms files")
    return images


def _read_transforms(source_path: Path, file: str, held_out: bool) -> list[PosedImage]:
    path = source_path / file
    record = read_json(path)
    frames = record.get("frames")
    if not isinstance(frames, list) or not frames:
        raise FormatError(f"{path}: expected a list 'frames' with at least one frame")
    images = []
    for index, frame in enumerate(frames):
        where = f"{path} frame {index}"
        if not isinstance(frame, dict):
            raise FormatError(f"{where}: expected an object")
        image = _image_path(source_path, frame, where)
        # A frame's own numbers win over the file's.
        camera = _camera(image, source_path, {**record, **frame}, where)
        images.append(PosedImage(camera, image, held_out))
    return images


def _image_path(source_path: Path, frame: dict[str, Any], where: str) -> Path:
    name = frame.get("file_path")
    if not isinstance(name, str):
        raise FormatError(f"{where}: file_path is missing")
    name = check_image_name(name, where)
    path = source_path / name
    # The original data names its frames without the suffix, "./train/r_0".
    if not path.is_file() and path.with_name(path.name + ".png").is_file():
        return path.with_name(path.name + ".png")
    return path


def _camera(image: Path, source_path: Path, values: dict[str, Any], where: str) -> Camera:
    distorted = [key for key in _DISTORTION if _number(values, key, 0.0, where) != 0]
    if distorted:
        raise FormatError(
            f"{where}: lens distortion ({', '.join(distorted)}); undistort the images first "
            "(colmap image_undistorter, or convert.py)"
        )
    # A missing photograph is reported later, together with all the others that are missing.
    width, height = image_size(image) if image.is_file() else (1, 1)
    file_width = int(_number(values, "w", float(width), where))
    file_height = int(_number(values, "h", float(height), where))
    fx, fy = _focal_lengths(values, file_width, where)
    if min(file_width, file_height) < 1 or fx <= 0 or fy <= 0:
        raise FormatError(f"{where}: image size and focal lengths must be positive")
    return Camera(
        world_to_view=_world_to_view(values.get("transform_matrix"), where),
        fx=fx,
        fy=fy,
        cx=_number(values, "cx", file_width / 2, where),
        cy=_number(values, "cy", file_height / 2, where),
        width=file_width,
        height=file_height,
        name=image.relative_to(source_path).as_posix(),
        uid=0,
    )


def _focal_lengths(values: dict[str, Any], width: int, where: str) -> tuple[float, float]:
    if "fl_x" in values:
        fx = _number(values, "fl_x", 0.0, where)
        return fx, _number(values, "fl_y", fx, where)
    angle = _number(values, "camera_angle_x", 0.0, where)
    if not 0 < angle < math.pi:
        raise FormatError(f"{where}: neither fl_x nor a camera_angle_x within 0..pi is given")
    fx = 0.5 * width / math.tan(0.5 * angle)
    return fx, fx


def _number(values: dict[str, Any], key: str, default: float, where: str) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
        raise FormatError(f"{where}: {key} is not a finite number")
    return float(value)


def _world_to_view(rows: object, where: str) -> torch.Tensor:
    try:
        matrix = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: transform_matrix is not a 4x4 matrix of numbers") from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise FormatError(f"{where}: transform_matrix is not a finite 4x4 matrix")
    # Some exporters leave a scale in the rotation; only a rotation is a camera pose.
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    if not 1e-8 < scale < 1e8:
        raise FormatError(f"{where}: transform_matrix is singular or mirrors")
    matrix[:3, :3] /= scale
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
        raise FormatError(f"{where}: the upper left of transform_matrix is not a rotation")
    view = np.eye(4)
    view[:3, :3] = rotation.T
    view[:3, 3] = -rotation.T @ matrix[:3, 3]
    return torch.from_numpy(_OPENGL_TO_COLMAP @ view)
