# SPDX-License-Identifier: Apache-2.0
"""The numbers of one frame of a transforms file: intrinsics, distortion, pose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scene.cameras import Camera
from scene.lenses import Lens
from utils.errors import FormatError
from utils.images import image_size

_RADIAL, _TANGENTIAL = ("k1", "k2", "k3", "k4", "k5", "k6"), ("p1", "p2")
_PERSPECTIVE = {"", "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE"}
_FISHEYE = {"OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "FISHEYE"}
# OpenGL's camera axes (right, up, backward) in terms of COLMAP's (right, down, forward).
_OPENGL_TO_COLMAP = np.diag([1.0, -1.0, -1.0, 1.0])


def frame_camera(image: Path, source_path: Path, values: dict[str, Any], where: str) -> Camera:
    """A frame's camera at the size that the file declares. FormatError, DataError."""
    # A missing photograph is reported later, together with all the others that are missing.
    width, height = image_size(image) if image.is_file() else (1, 1)
    file_width = int(_number(values, "w", float(width), where))
    file_height = int(_number(values, "h", float(height), where))
    fx, fy = _focal_lengths(values, file_width, file_height, where)
    if min(file_width, file_height) < 1 or fx <= 0 or fy <= 0:
        raise FormatError(f"{where}: image size and focal lengths must be positive")
    return Camera(
        world_to_view=world_to_view(values.get("transform_matrix"), where),
        fx=fx,
        fy=fy,
        cx=_number(values, "cx", file_width / 2, where),
        cy=_number(values, "cy", file_height / 2, where),
        width=file_width,
        height=file_height,
        name=image.relative_to(source_path).as_posix(),
        uid=0,
    )


def frame_lens(camera: Camera, values: dict[str, Any], where: str) -> Lens | None:
    """The lens of a frame, in COLMAP's terms; None for a pinhole."""
    kind = values.get("camera_model", "")
    kind = str(kind).upper() if isinstance(kind, str) else "?"
    k1, k2, k3, k4, k5, k6 = (_number(values, key, 0.0, where) for key in _RADIAL)
    p1, p2 = (_number(values, key, 0.0, where) for key in _TANGENTIAL)
    rational: tuple[float, ...] = (k1, k2, p1, p2, k3, k4, k5, k6)
    coefficients = rational
    if kind in _FISHEYE or values.get("is_fisheye") is True or values.get("fisheye") is True:
        if p1 or p2 or k5 or k6:
            raise FormatError(f"{where}: a fisheye has k1 to k4, but p1, p2, k5 or k6 is given too")
        model, coefficients = "OPENCV_FISHEYE", (k1, k2, k3, k4)
    elif kind == "FULL_OPENCV":
        model = kind
    elif kind not in _PERSPECTIVE:
        raise FormatError(
            f"{where}: camera_model {kind[:40]!r} is not known; expected OPENCV, OPENCV_FISHEYE, "
            "FULL_OPENCV or a pinhole"
        )
    elif k4 or k5 or k6:
        # To some programs k4 belongs to r^8, to others to the divisor.
        raise FormatError(
            f"{where}: k4 to k6 mean different things to different programs; name camera_model "
            "FULL_OPENCV (OpenCV's rational model) or OPENCV_FISHEYE"
        )
    elif k3:
        model = "FULL_OPENCV"
    else:
        model, coefficients = "OPENCV", rational[:4]
    size = camera.width, camera.height
    lens = Lens(model, camera.fx, camera.fy, camera.cx, camera.cy, *size, coefficients)
    return lens if lens.bends() else None


def _focal_lengths(
    values: dict[str, Any], width: int, height: int, where: str
) -> tuple[float, float]:
    if "fl_x" in values or "fl_y" in values:
        first = _number(values, "fl_x" if "fl_x" in values else "fl_y", 0.0, where)
        return _number(values, "fl_x", first, where), _number(values, "fl_y", first, where)
    angles = {
        key: _number(values, key, 0.0, where)
        for key in ("camera_angle_x", "camera_angle_y")
        if key in values
    }
    if not angles or not all(0 < angle < math.pi for angle in angles.values()):
        raise FormatError(f"{where}: neither fl_x nor a camera_angle_x within 0..pi is given")
    focal = {
        "camera_angle_x": 0.5 * width / math.tan(0.5 * angles.get("camera_angle_x", 1.0)),
        "camera_angle_y": 0.5 * height / math.tan(0.5 * angles.get("camera_angle_y", 1.0)),
    }
    first = focal[next(iter(angles))]
    fx, fy = (focal[key] if key in angles else first for key in focal)
    return fx, fy


def _number(values: dict[str, Any], key: str, default: float, where: str) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
        raise FormatError(f"{where}: {key} is not a finite number")
    return float(value)


def world_to_view(rows: object, where: str) -> torch.Tensor:
    """The pose [4, 4] of a transform_matrix, world to view in COLMAP's axes. FormatError."""
    try:
        matrix = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: transform_matrix is not a 4x4 matrix of numbers") from error
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
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
