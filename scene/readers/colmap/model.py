# SPDX-License-Identifier: Apache-2.0
"""The records of a COLMAP model, and the checks that its binary and its text form share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from utils.errors import FormatError

# Number of parameters of the models without distortion, by COLMAP's names.
PINHOLE_PARAMS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}
# COLMAP's model numbers; a model that is not pinhole has to be undistorted first.
MODEL_NAMES = {
    0: "SIMPLE_PINHOLE",
    1: "PINHOLE",
    2: "SIMPLE_RADIAL",
    3: "RADIAL",
    4: "OPENCV",
    5: "OPENCV_FISHEYE",
    6: "FULL_OPENCV",
    7: "FOV",
    8: "SIMPLE_RADIAL_FISHEYE",
    9: "RADIAL_FISHEYE",
    10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE",
}
MODEL_IDS = {name: number for number, name in MODEL_NAMES.items()}
# Wider than any sensor; more is a damaged file, and would only fail later in an allocation.
MAX_SIDE = 1_000_000

MAX_NAME_PART = 255  # bytes, of the common file systems


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics; params are (f, cx, cy) for SIMPLE_PINHOLE and (fx, fy, cx, cy) for PINHOLE."""

    id: int
    model: str
    width: int
    height: int
    params: tuple[float, ...]

    @property
    def fx(self) -> float:
        return self.params[0]

    @property
    def fy(self) -> float:
        return self.params[-3]

    @property
    def cx(self) -> float:
        return self.params[-2]

    @property
    def cy(self) -> float:
        return self.params[-1]


@dataclass(frozen=True)
class ColmapImage:
    """The pose of one image, world to view: x_view = R(quaternion) x_world + translation."""

    id: int
    name: str
    camera_id: int
    quaternion: tuple[float, float, float, float]  # w, x, y, z, unit length
    translation: tuple[float, float, float]

    def world_to_view(self) -> NDArray[np.float64]:
        """The pose as a matrix [4, 4]."""
        w, x, y, z = self.quaternion
        matrix = np.eye(4)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        matrix[:3, 3] = self.translation
        return matrix


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """The sparse points, without their tracks."""

    positions: NDArray[np.float64]  # [N, 3]
    colors: NDArray[np.uint8]  # [N, 3]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """What is read of a model: cameras by id, images in the order of the file, points if any."""

    cameras: dict[int, ColmapCamera]
    images: tuple[ColmapImage, ...]
    points: ColmapPoints | None


def check_model_name(model: str, where: str) -> None:
    """Refuse lenses with distortion, naming what removes it."""
    if model not in PINHOLE_PARAMS:
        raise FormatError(
            f"{where}: camera model {model} has lens distortion; undistort the images first "
            "(colmap image_undistorter, or convert.py) to get PINHOLE cameras"
        )


def check_camera(camera: ColmapCamera, where: str) -> ColmapCamera:
    """The camera itself if its numbers make sense, else FormatError naming the place."""
    if not (0 < camera.width <= MAX_SIDE and 0 < camera.height <= MAX_SIDE):
        raise FormatError(
            f"{where}: camera {camera.id} has a size of {camera.width}x{camera.height} pixels"
        )
    if not all(math.isfinite(value) for value in camera.params):
        raise FormatError(f"{where}: camera {camera.id} has a parameter that is not finite")
    if camera.fx <= 0 or camera.fy <= 0:
        raise FormatError(
            f"{where}: camera {camera.id} has focal lengths {camera.fx:g}, {camera.fy:g}; "
            "they must be positive"
        )
    return camera


def check_image_name(name: str, where: str) -> str:
    """The name itself if it is a plain path inside the images folder, else FormatError.

    A model is downloaded data: its names must not reach files elsewhere on the disk.
    """
    path = PurePosixPath(name)
    fault = ""
    if not name or name != name.strip() or path.name == "":
        fault = "is empty or padded with blanks"
    elif any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        fault = "holds a character that no file name has"
    elif any(len(part.encode()) > MAX_NAME_PART for part in path.parts):
        fault = "is too long"
    elif "\\" in name:
        fault = "holds a backslash"
    elif path.is_absolute() or PureWindowsPath(name).drive:
        fault = "is absolute"
    elif ".." in path.parts:
        fault = "leaves the images folder"
    if fault:
        raise FormatError(f"{where}: image name {name!r} {fault}; refused")
    return str(path)


def make_image(
    numbers: tuple[int, int], pose: tuple[float, ...], name: str, where: str
) -> ColmapImage:
    """A checked image from (id, camera id), (qw, qx, qy, qz, tx, ty, tz) and its name."""
    if not all(math.isfinite(value) for value in pose):
        raise FormatError(f"{where}: the pose of image {numbers[0]} is not finite")
    length = math.hypot(*pose[:4])
    if not 1e-8 < length < 1e8:
        raise FormatError(f"{where}: image {numbers[0]} has a quaternion of length {length:g}")
    w, x, y, z = (value / length for value in pose[:4])
    return ColmapImage(
        id=numbers[0],
        name=check_image_name(name, where),
        camera_id=numbers[1],
        quaternion=(w, x, y, z),
        translation=(pose[4], pose[5], pose[6]),
    )


def check_unique(values: list[int] | list[str], what: str, file: str) -> None:
    """FormatError if a value is there twice; names it."""
    if len(set(values)) == len(values):
        return
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            raise FormatError(f"{file}: {what} {value!r} is there twice")
        seen.add(value)


def make_points(positions: NDArray[np.float64], rgb: NDArray[np.uint8], file: str) -> ColmapPoints:
    """Checked points: positions must be finite and fit single precision."""
    if len(positions):
        bad = ~(np.abs(positions) < 1e30).all(axis=1)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise FormatError(f"{file}: point number {first + 1} is not finite")
    return ColmapPoints(positions=positions, colors=rgb)
