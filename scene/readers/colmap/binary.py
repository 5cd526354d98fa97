# SPDX-License-Identifier: Apache-2.0
"""COLMAP's binary files, little-endian: cameras.bin, images.bin, points3D.bin.

    cameras   uint64 count; per camera: uint32 id, int32 model, uint64 width, height, doubles
    images    uint64 count; per image: uint32 id, 7 doubles (quaternion wxyz, translation),
              uint32 camera id, name ending in NUL, uint64 n, n x (double x, y, uint64 point)
    points3D  uint64 count; per point: uint64 id, 3 doubles, 3 bytes RGB, double error,
              uint64 n, n x (uint32 image, uint32 index)

Readers never believe a count: it is compared with the bytes that are left before anything is
allocated. Every fault is a FormatError with the file and the byte offset.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from scene.readers.colmap.model import (
    MODEL_IDS,
    MODEL_NAMES,
    PINHOLE_PARAMS,
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    check_camera,
    check_model_name,
    check_unique,
    make_image,
    make_points,
)
from utils.errors import DataError, FormatError

_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_POINT_DTYPE = np.dtype(
    [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")]
)
_OBSERVATION_BYTES = 24
_TRACK_BYTES = 8
_MAX_NAME = 4096  # PATH_MAX of Linux


class _Cursor:
    """A position in a file's bytes; reading beyond the end is a FormatError."""

    def __init__(self, path: Path) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        self.path = path
        self.offset = 0

    def where(self) -> str:
        return f"{self.path} at byte {self.offset}"

    def need(self, size: int, what: str) -> None:
        left = len(self.data) - self.offset
        if size > left:
            raise FormatError(
                f"{self.where()}: {what} needs {size} bytes, {left} are left; "
                "the file is truncated or damaged"
            )

    def take(self, layout: struct.Struct, what: str) -> tuple[float, ...]:
        self.need(layout.size, what)
        values = layout.unpack_from(self.data, self.offset)
        self.offset += layout.size
        return values

    def take_count(self, smallest: int, what: str) -> int:
        """A count of records of which each has at least `smallest` bytes."""
        count = int(self.take(_COUNT, f"the number of {what}")[0])
        self.need(count * smallest, f"{count} {what}")
        return count

    def skip(self, size: int, what: str) -> None:
        self.need(size, what)
        self.offset += size

    def take_name(self) -> str:
        end = self.data.find(b"\0", self.offset, self.offset + _MAX_NAME)
        if end < 0:
            raise FormatError(f"{self.where()}: an image name has no end")
        try:
            name = self.data[self.offset : end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.where()}: an image name is not UTF-8") from error
        self.offset = end + 1
        return name

    def finish(self) -> None:
        extra = len(self.data) - self.offset
        if extra:
            raise FormatError(f"{self.where()}: {extra} bytes too many after the last record")


def read_cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    """Cameras of a cameras.bin by id."""
    cursor = _Cursor(path)
    cameras = []
    for _ in range(cursor.take_count(_CAMERA.size + 24, "cameras")):
        where = cursor.where()
        number, model_id, width, height = (int(v) for v in cursor.take(_CAMERA, "a camera"))
        if model_id not in MODEL_NAMES:
            raise FormatError(f"{where}: camera {number} has the unknown model number {model_id}")
        model = MODEL_NAMES[model_id]
        check_model_name(model, where)
        layout = struct.Struct(f"<{PINHOLE_PARAMS[model]}d")
        params = cursor.take(layout, f"the parameters of camera {number}")
        cameras.append(check_camera(ColmapCamera(number, model, width, height, params), where))
    cursor.finish()
    check_unique([camera.id for camera in cameras], "camera id", str(path))
    return {camera.id: camera for camera in cameras}


def read_images_binary(path: Path) -> tuple[ColmapImage, ...]:
    """Poses of an images.bin; the observations are stepped over."""
    cursor = _Cursor(path)
    images = []
    for _ in range(cursor.take_count(_IMAGE.size + 1 + _COUNT.size, "images")):
        where = cursor.where()
        values = cursor.take(_IMAGE, "an image")
        name = cursor.take_name()
        images.append(make_image((int(values[0]), int(values[8])), values[1:8], name, where))
        count = cursor.take_count(_OBSERVATION_BYTES, f"observations of {name}")
        cursor.skip(count * _OBSERVATION_BYTES, f"observations of {name}")
    cursor.finish()
    return tuple(images)


def read_points_binary(path: Path) -> ColmapPoints:
    """Positions and colours of a points3D.bin; the tracks are stepped over."""
    cursor = _Cursor(path)
    count = cursor.take_count(_POINT.size, "points")
    data, size, track_at = cursor.data, len(cursor.data), _POINT.size - _COUNT.size
    starts = np.empty(count, np.int64)
    offset = cursor.offset
    # Records differ in length, so their starts have to be walked; a plain loop over one field
    # is quick enough (a million points in about a third of a second).
    for index in range(count):
        starts[index] = offset
        if offset + _POINT.size > size:
            cursor.offset = offset
            cursor.need(_POINT.size, f"point number {index + 1}")
        offset += _POINT.size + _TRACK_BYTES * _COUNT.unpack_from(data, offset + track_at)[0]
        if offset > size:
            cursor.offset = int(starts[index])
            cursor.need(offset - cursor.offset, f"point number {index + 1} with its track")
    cursor.offset = offset
    cursor.finish()
    raw = np.frombuffer(data, np.uint8)[starts[:, None] + np.arange(_POINT.size)]
    records = np.ascontiguousarray(raw).view(_POINT_DTYPE).reshape(count)
    if len(np.unique(records["id"])) != count:
        check_unique(records["id"].tolist(), "point id", str(path))
    return make_points(records["xyz"].astype(np.float64), records["rgb"].copy(), str(path))


def write_cameras_binary(path: Path, cameras: list[ColmapCamera]) -> None:
    """Write a cameras.bin."""
    parts = [_COUNT.pack(len(cameras))]
    for camera in cameras:
        model_id = MODEL_IDS[camera.model]
        parts.append(_CAMERA.pack(camera.id, model_id, camera.width, camera.height))
        parts.append(struct.pack(f"<{len(camera.params)}d", *camera.params))
    path.write_bytes(b"".join(parts))


def write_images_binary(path: Path, images: list[ColmapImage]) -> None:
    """Write an images.bin without observations."""
    parts = [_COUNT.pack(len(images))]
    for image in images:
        pose = (*image.quaternion, *image.translation)
        parts.append(_IMAGE.pack(image.id, *pose, image.camera_id))
        parts.append(image.name.encode("utf-8") + b"\0" + _COUNT.pack(0))
    path.write_bytes(b"".join(parts))


def write_points_binary(path: Path, points: ColmapPoints) -> None:
    """Write a points3D.bin with ids 1..N and empty tracks."""
    records = np.zeros(len(points), _POINT_DTYPE)
    records["id"] = np.arange(1, len(points) + 1)
    records["xyz"] = points.positions
    records["rgb"] = points.colors
    path.write_bytes(_COUNT.pack(len(points)) + records.tobytes())
