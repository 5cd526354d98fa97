# SPDX-License-Identifier: Apache-2.0
"""The records of a COLMAP model, and the checks that its binary and its text form share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from scene.lenses import LENS_MODELS, Lens, LensModel
from scene.lenses.models import PANORAMAS
from utils.errors import FormatError

MODEL_NAMES = {number: name for name, number in PANORAMAS.items()}
MODEL_NAMES |= {model.number: name for name, model in LENS_MODELS.items()}
# Wider than any sensor; more is a damaged file, and would only fail later in an allocation.
MAX_SIDE = 1_000_000

MAX_NAME_PART = 255  # bytes, of the common file systems


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics; params are those of the model (see `LENS_MODELS`), in the order of the files."""

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
        return self.params[self._intrinsics - 3]

    @property
    def cx(self) -> float:
        return self.params[self._intrinsics - 2]

    @property
    def cy(self) -> float:
        return self.params[self._intrinsics - 1]

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The numbers of the distortion."""
        return self.params[self._intrinsics :]

    @property
    def _intrinsics(self) -> int:
        return LENS_MODELS[self.model].intrinsics

    @property
    def lens(self) -> Lens | None:
        """The lens, or None for one that moves no pixel: a pinhole, whatever its name."""
        lens = Lens(
            self.model,
            self.fx,
            self.fy,
            self.cx,
            self.cy,
            self.width,
            self.height,
            self.coefficients,
        )
        return lens if lens.bends() else None


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
    """The sparse points; `ColmapModel.tracks` tells which images see them."""

    positions: NDArray[np.float64]  # [N, 3]
    colors: NDArray[np.uint8]  # [N, 3]
    ids: NDArray[np.int64] | None = None  # [N], the files' numbers; None: 1..N

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Tracks:
    """Which images see which points: one row for each of T sightings, in the order of the file."""

    point_ids: NDArray[np.int64]  # [T]
    image_ids: NDArray[np.int64]  # [T]
    indices: NDArray[np.int64]  # [T] row of the sighting in the image's `Observations`


@dataclass(frozen=True, eq=False)
class Observations:
    """The key points of one image."""

    pixels: NDArray[np.float64]  # [n, 2], of the photograph as it was taken, first centre at 0.5
    point_ids: NDArray[np.int64]  # [n], -1 where no point was found


def check_model_name(model: str, where: str) -> LensModel:
    """The model of that name; FormatError for one that no pinhole can show, or none of COLMAP's."""
    if model in PANORAMAS:
        raise FormatError(
            f"{where}: camera model {model} looks all around and fits no pinhole; cut its "
            "pictures into perspective ones, with their poses, first"
        )
    if model not in LENS_MODELS:
        raise FormatError(
            f"{where}: unknown camera model {model[:40]!r}; known are {', '.join(LENS_MODELS)}"
        )
    return LENS_MODELS[model]


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
    name = name.replace("\\", "/")  # of programs under Windows
    path = PurePosixPath(name)
    fault = ""
    if not name or name != name.strip() or path.name == "":
        fault = "is empty or padded with blanks"
    elif any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        fault = "holds a character that no file name has"
    elif any(len(part.encode()) > MAX_NAME_PART for part in path.parts):
        fault = "is too long"
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


def make_points(
    positions: NDArray[np.float64],
    rgb: NDArray[np.uint8],
    ids: NDArray[np.int64],
    file: str,
) -> ColmapPoints:
    """Checked points: positions must be finite and fit single precision, ids be different.

    Id -1, which scripts write where they have no number, may stand at any number of points.
    """
    if len(positions):
        bad = ~(np.abs(positions) < 1e30).all(axis=1)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise FormatError(f"{file}: point number {first + 1} is not finite")
    numbered = ids[ids != -1]
    if len(np.unique(numbered)) != len(numbered):
        check_unique(numbered.tolist(), "point id", file)
    return ColmapPoints(positions=positions, colors=rgb, ids=ids)
