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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scene.lenses import LENS_MODELS
from scene.readers.colmap.model import (
    MODEL_NAMES,
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    Observations,
    Tracks,
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
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_SIGHTING = np.dtype([("image", "<u4"), ("index", "<u4")])
_MAX_NAME = 4096  # PATH_MAX of Linux


class _Cursor:
    """A position in a file's bytes; reading beyond the end is a FormatError."""

    def __init__(self, path: Path, most: int = -1) -> None:
        try:
            with open(path, "rb") as stream:
                self.data = stream.read(most)
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
        layout = struct.Struct(f"<{len(check_model_name(model, where).parameters)}d")
        params = cursor.take(layout, f"the parameters of camera {number}")
        cameras.append(check_camera(ColmapCamera(number, model, width, height, params), where))
    cursor.finish()
    check_unique([camera.id for camera in cameras], "camera id", str(path))
    return {camera.id: camera for camera in cameras}


def _walk_images(cursor: _Cursor) -> Iterator[tuple[ColmapImage, int, int]]:
    """Each image with the offset and the number of its observations, which are stepped over."""
    for _ in range(cursor.take_count(_IMAGE.size + 1 + _COUNT.size, "images")):
        where = cursor.where()
        values = cursor.take(_IMAGE, "an image")
        name = cursor.take_name()
        image = make_image((int(values[0]), int(values[8])), values[1:8], name, where)
        count = cursor.take_count(_OBSERVATION.itemsize, f"observations of {name}")
        yield image, cursor.offset, count
        cursor.skip(count * _OBSERVATION.itemsize, f"observations of {name}")
    cursor.finish()


def count_images_binary(path: Path) -> int:
    """How many images the first bytes of an images.bin announce."""
    return int(_Cursor(path, _COUNT.size).take(_COUNT, "the number of images")[0])


def read_images_binary(path: Path) -> tuple[ColmapImage, ...]:
    """Poses of an images.bin; the observations are stepped over."""
    return tuple(image for image, _, _ in _walk_images(_Cursor(path)))


def read_observations_binary(path: Path) -> dict[int, Observations]:
    """The observations of an images.bin by image id, as views into its bytes."""
    cursor = _Cursor(path)
    found = {}
    for image, offset, count in _walk_images(cursor):
        rows = np.frombuffer(cursor.data, _OBSERVATION, count, offset)
        found[image.id] = Observations(rows["xy"], rows["point"])
    return found


def _walk_points(cursor: _Cursor) -> NDArray[np.int64]:
    """The offsets of all points and of the end, [N + 1]; every record lies inside the file."""
    count = cursor.take_count(_POINT.size, "points")
    data, size, track_at = cursor.data, len(cursor.data), _POINT.size - _COUNT.size
    starts = np.empty(count + 1, np.int64)
    offset = cursor.offset
    # Records differ in length, so their starts have to be walked; a plain loop over one field
    # is quick enough (a million points in about a third of a second).
    for index in range(count):
        starts[index] = offset
        if offset + _POINT.size > size:
            cursor.offset = offset
            cursor.need(_POINT.size, f"point number {index + 1}")
        offset += _POINT.size + _SIGHTING.itemsize * _COUNT.unpack_from(data, offset + track_at)[0]
        if offset > size:
            cursor.offset = int(starts[index])
            cursor.need(offset - cursor.offset, f"point number {index + 1} with its track")
    starts[count] = cursor.offset = offset
    cursor.finish()
    return starts


def _point_records(data: bytes, starts: NDArray[np.int64]) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8)[starts[:-1, None] + np.arange(_POINT.size)]
    return np.ascontiguousarray(raw).view(_POINT_DTYPE).reshape(len(starts) - 1)


def read_points_binary(path: Path) -> ColmapPoints:
    """Positions, colours and ids of a points3D.bin; the tracks are stepped over."""
    cursor = _Cursor(path)
    records = _point_records(cursor.data, _walk_points(cursor))
    ids = records["id"].astype(np.int64)
    return make_points(records["xyz"].astype(np.float64), records["rgb"].copy(), ids, str(path))


def read_tracks_binary(path: Path) -> Tracks:
    """The tracks of a points3D.bin."""
    cursor = _Cursor(path)
    starts = _walk_points(cursor)
    records = _point_records(cursor.data, starts)
    lengths = records["track"].astype(np.int64)
    sightings = np.empty(int(lengths.sum()), _SIGHTING)
    at = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=False):
        sightings[at : at + length] = np.frombuffer(
            cursor.data, _SIGHTING, length, start + _POINT.size
        )
        at += length
    return Tracks(
        np.repeat(records["id"].astype(np.int64), lengths),
        sightings["image"].astype(np.int64),
        sightings["index"].astype(np.int64),
    )


def write_cameras_binary(path: Path, cameras: list[ColmapCamera]) -> None:
    """Write a cameras.bin."""
    parts = [_COUNT.pack(len(cameras))]
    for camera in cameras:
        model_id = LENS_MODELS[camera.model].number
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
    """Write a points3D.bin with empty tracks."""
    records = np.zeros(len(points), _POINT_DTYPE)
    records["id"] = np.arange(1, len(points) + 1) if points.ids is None else points.ids
    records["xyz"] = points.positions
    records["rgb"] = points.colors
    path.write_bytes(_COUNT.pack(len(points)) + records.tobytes())
