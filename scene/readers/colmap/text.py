# SPDX-License-Identifier: Apache-2.0
"""COLMAP's text files: cameras.txt, images.txt, points3D.txt. Lines starting with # are comments.

    cameras   ID MODEL WIDTH HEIGHT PARAMS...
    images    ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of X Y POINT_ID triples,
              which may be empty but must be there
    points3D  ID X Y Z R G B ERROR, then IMAGE_ID INDEX pairs

Every fault is a FormatError with the file and the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scene.readers.colmap.model import (
    MODEL_IDS,
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

_MAX_ID = 2**64 - 1


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} at byte {error.start}: not UTF-8 text") from error
    # Only real line ends: splitlines() would also split at form feeds and the like.
    return [line.rstrip("\r") for line in text.split("\n")]


def _records(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs (place, line) of the lines that hold data."""
    for number, line in enumerate(_lines(path), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{path} line {number}", line


def _integer(token: str, what: str, where: str) -> int:
    if not (token.isascii() and token.isdigit() and len(token) <= 20):
        raise FormatError(f"{where}: {what} is {token[:40]!r}, a whole number was expected")
    value = int(token)
    if value > _MAX_ID:
        raise FormatError(f"{where}: {what} {value} is too large")
    return value


def _floats(tokens: list[str], what: str, where: str) -> tuple[float, ...]:
    # float() would also take 1_000 and digits of other scripts.
    if any("_" in token or not token.isascii() for token in tokens):
        raise FormatError(f"{where}: {what} is not a number")
    try:
        return tuple(float(token) for token in tokens)
    except ValueError as error:
        raise FormatError(f"{where}: {what} is not a number") from error


def _expect(fields: list[str], count: int, what: str, where: str) -> None:
    if len(fields) < count:
        raise FormatError(f"{where}: {what} needs {count} fields, got {len(fields)}")


def read_cameras_text(path: Path) -> dict[int, ColmapCamera]:
    """Cameras of a cameras.txt by id."""
    cameras = []
    for where, line in _records(path):
        fields = line.split()
        _expect(fields, 5, "a camera", where)
        model = fields[1]
        if model not in MODEL_IDS:
            raise FormatError(f"{where}: unknown camera model {model[:40]!r}")
        check_model_name(model, where)
        if len(fields) != 4 + PINHOLE_PARAMS[model]:
            raise FormatError(
                f"{where}: {model} has {PINHOLE_PARAMS[model]} parameters, got {len(fields) - 4}"
            )
        number, width, height = (
            _integer(fields[i], what, where) for i, what in ((0, "id"), (2, "width"), (3, "height"))
        )
        params = _floats(fields[4:], "a parameter", where)
        cameras.append(check_camera(ColmapCamera(number, model, width, height, params), where))
    check_unique([camera.id for camera in cameras], "camera id", str(path))
    return {camera.id: camera for camera in cameras}


def _check_observations(line: str, where: str) -> None:
    tokens = line.split()
    if len(tokens) % 3:
        raise FormatError(
            f"{where}: expected the observations of an image (X Y POINT_ID triples, or an empty "
            f"line), got {len(tokens)} fields"
        )
    try:
        np.array(tokens, np.float64)
    except ValueError as error:
        raise FormatError(f"{where}: an observation is not a number") from error


def read_images_text(path: Path) -> tuple[ColmapImage, ...]:
    """Poses of an images.txt; the observations are only checked."""
    lines = _lines(path)
    images = []
    index = 0
    while index < len(lines):
        line, where = lines[index].strip(), f"{path} line {index + 1}"
        index += 1
        if not line or line.startswith("#"):
            continue
        fields = line.split(maxsplit=9)
        _expect(fields, 10, "an image", where)
        number = _integer(fields[0], "id", where)
        camera_id = _integer(fields[8], "camera id", where)
        pose = _floats(fields[1:8], "the pose", where)
        images.append(make_image((number, camera_id), pose, fields[9], where))
        if index >= len(lines):
            raise FormatError(f"{where}: the line of observations after this image is missing")
        _check_observations(lines[index], f"{path} line {index + 1}")
        index += 1
    return tuple(images)


def read_points_text(path: Path) -> ColmapPoints:
    """Positions and colours of a points3D.txt; tracks are only counted."""
    ids: list[int] = []
    positions: list[tuple[float, ...]] = []
    colors: list[tuple[int, ...]] = []
    for where, line in _records(path):
        fields = line.split()
        _expect(fields, 8, "a point", where)
        if len(fields) % 2:
            raise FormatError(f"{where}: the track has half a pair at its end")
        ids.append(_integer(fields[0], "id", where))
        positions.append(_floats(fields[1:4], "the position", where))
        rgb = tuple(_integer(token, "a colour", where) for token in fields[4:7])
        if max(rgb) > 255:
            raise FormatError(f"{where}: colour {rgb} is outside 0..255")
        colors.append(rgb)
    check_unique(ids, "point id", str(path))
    xyz = np.array(positions, np.float64).reshape(-1, 3)
    return make_points(xyz, np.array(colors, np.uint8).reshape(-1, 3), str(path))


def write_cameras_text(path: Path, cameras: list[ColmapCamera]) -> None:
    """Write a cameras.txt; numbers keep every bit."""
    lines = ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]"]
    for camera in cameras:
        params = " ".join(repr(float(value)) for value in camera.params)
        lines.append(f"{camera.id} {camera.model} {camera.width} {camera.height} {params}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_images_text(path: Path, images: list[ColmapImage]) -> None:
    """Write an images.txt without observations."""
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", "# X Y POINT3D_ID triples"]
    for image in images:
        pose = " ".join(repr(float(value)) for value in (*image.quaternion, *image.translation))
        lines.extend([f"{image.id} {pose} {image.camera_id} {image.name}", ""])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_points_text(path: Path, points: ColmapPoints) -> None:
    """Write a points3D.txt with ids 1..N and empty tracks."""
    lines = ["# POINT3D_ID X Y Z R G B ERROR TRACK[]"]
    for number, (xyz, rgb) in enumerate(zip(points.positions, points.colors, strict=True), 1):
        position = " ".join(repr(float(value)) for value in xyz)
        lines.append(f"{number} {position} {rgb[0]} {rgb[1]} {rgb[2]} 0.0")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
