# SPDX-License-Identifier: Apache-2.0
"""COLMAP's text files: cameras.txt, images.txt, points3D.txt. Lines starting with # are comments.

    cameras   ID MODEL WIDTH HEIGHT PARAMS...
    images    ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of X Y POINT_ID triples
    points3D  ID X Y Z R G B ERROR, then IMAGE_ID INDEX pairs

Files that people and scripts write are read where their meaning is beyond doubt: whole numbers as
131.0, colours in 0..1, points without an error, no line of observations where none are known, byte
order marks, line ends of Windows. Every fault is a FormatError with the file and the line.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scene.readers.colmap.model import (
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

_MAX_ID = 2**64 - 1
_WHOLE = re.compile(r"([0-9]{1,20})(\.0*)?", re.ASCII)
_IMAGE_FIELDS = 10


def _decoded(data: bytes, path: Path) -> str:
    """Text of a file in UTF-8, or in the UTF-16 of Windows' shell, which a mark announces."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if wide else "UTF-8"
        raise FormatError(f"{path} at byte {error.start}: not {kind} text") from error


def _lines(path: Path) -> list[str]:
    try:
        text = _decoded(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    # Only real line ends: splitlines() would also split at form feeds and the like.
    return [line.rstrip("\r") for line in text.split("\n")]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _records(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs (place, line) of the lines that hold data."""
    for number, line in enumerate(_lines(path), 1):
        if line.strip() and not _is_comment(line):
            yield f"{path} line {number}", line


def _integer(token: str, what: str, where: str) -> int:
    match = _WHOLE.fullmatch(token)
    if not match:
        raise FormatError(f"{where}: {what} is {token[:40]!r}, a whole number was expected")
    value = int(match[1])
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
        expected = len(check_model_name(model, where).parameters)
        if len(fields) != 4 + expected:
            raise FormatError(f"{where}: {model} has {expected} parameters, got {len(fields) - 4}")
        number, width, height = (
            _integer(fields[i], what, where) for i, what in ((0, "id"), (2, "width"), (3, "height"))
        )
        params = _floats(fields[4:], "a parameter", where)
        cameras.append(check_camera(ColmapCamera(number, model, width, height, params), where))
    check_unique([camera.id for camera in cameras], "camera id", str(path))
    return {camera.id: camera for camera in cameras}


def _numbers(tokens: list[str]) -> bool:
    try:
        np.array(tokens, np.float64)
    except ValueError:
        return False
    return True


def _observations(line: str, where: str) -> list[str] | None:
    """The fields of a line of observations; None if the next image stands there instead."""
    fields = line.split()
    numeric = _numbers(fields)
    if numeric and len(fields) % 3 == 0:
        return fields
    if len(fields) >= _IMAGE_FIELDS and _numbers(fields[: _IMAGE_FIELDS - 1]):
        return None
    if len(fields) % 3:
        raise FormatError(
            f"{where}: expected the observations of an image (X Y POINT_ID triples, or an "
            f"empty line), got {len(fields)} fields"
        )
    raise FormatError(f"{where}: an observation is not a number")


def _walk_images(path: Path) -> Iterator[tuple[ColmapImage, list[str], str]]:
    """Each image with the fields of its observations and their place.

    Lines of observations may be missing: at the end of the file, and where the next image follows
    at once.
    """
    lines = _lines(path)
    index = 0
    while index < len(lines):
        line, where = lines[index].strip(), f"{path} line {index + 1}"
        index += 1
        if not line or _is_comment(line):
            continue
        fields = line.split(maxsplit=_IMAGE_FIELDS - 1)
        _expect(fields, _IMAGE_FIELDS, "an image", where)
        number = _integer(fields[0], "id", where)
        camera_id = _integer(fields[8], "camera id", where)
        pose = _floats(fields[1:8], "the pose", where)
        image = make_image((number, camera_id), pose, fields[9], where)
        observed = None
        where = f"{path} line {index + 1}"
        if index < len(lines) and not _is_comment(lines[index]):
            observed = _observations(lines[index], where)
            index += observed is not None
        yield image, observed or [], where


def count_images_text(path: Path) -> int:
    """How many images an images.txt lists."""
    return sum(1 for _ in _walk_images(path))


def read_images_text(path: Path) -> tuple[ColmapImage, ...]:
    """Poses of an images.txt; the observations are only checked."""
    return tuple(image for image, _, _ in _walk_images(path))


def read_observations_text(path: Path) -> dict[int, Observations]:
    """The observations of an images.txt by image id."""
    found = {}
    for image, observed, where in _walk_images(path):
        values = np.array(observed, np.float64).reshape(-1, 3)
        if not (np.abs(values) < 2**53).all():
            raise FormatError(f"{where}: an observation is too large")
        found[image.id] = Observations(values[:, :2].copy(), values[:, 2].astype(np.int64))
    return found


def _point_fields(path: Path) -> Iterator[tuple[list[str], str]]:
    for where, line in _records(path):
        fields = line.split()
        _expect(fields, 7, "a point", where)
        if len(fields) > 8 and len(fields) % 2:
            raise FormatError(f"{where}: the track has half a pair at its end")
        yield fields, where


def _point_id(token: str, where: str) -> int:
    number = -1 if token in ("-1", "-1.0") else _integer(token, "id", where)
    return -1 if number == _MAX_ID else number


def read_points_text(path: Path) -> ColmapPoints:
    """Positions, colours and ids of a points3D.txt; tracks are only counted."""
    ids: list[int] = []
    positions: list[tuple[float, ...]] = []
    colors: list[tuple[float, ...]] = []
    for fields, where in _point_fields(path):
        ids.append(_point_id(fields[0], where))
        positions.append(_floats(fields[1:4], "the position", where))
        rgb = _floats(fields[4:7], "a colour", where)
        if not all(0 <= value <= 255 for value in rgb):
            raise FormatError(f"{where}: colour ({', '.join(fields[4:7])}) is outside 0..255")
        colors.append(rgb)
        if ids[-1] >= 2**63:
            raise FormatError(f"{where}: id {ids[-1]} is too large")
    xyz = np.array(positions, np.float64).reshape(-1, 3)
    shades = np.array(colors, np.float64).reshape(-1, 3)
    if len(shades) and shades.max() <= 1 and (shades % 1).any():
        shades = shades * 255  # in 0..1, as most programs but COLMAP have them
    rgb8 = np.floor(shades + 0.5).astype(np.uint8)
    return make_points(xyz, rgb8, np.array(ids, np.int64), str(path))


def read_tracks_text(path: Path) -> Tracks:
    """The tracks of a points3D.txt."""
    rows: list[tuple[int, int, int]] = []
    for fields, where in _point_fields(path):
        number = _point_id(fields[0], where)
        numbers = [_integer(token, "a number of the track", where) for token in fields[8:]]
        if max([number, *numbers]) >= 2**63:
            raise FormatError(f"{where}: a number of the track is too large")
        rows += [(number, *pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Tracks(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())


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
    """Write a points3D.txt with empty tracks."""
    lines = ["# POINT3D_ID X Y Z R G B ERROR TRACK[]"]
    numbers = range(1, len(points) + 1) if points.ids is None else points.ids.tolist()
    for number, xyz, rgb in zip(numbers, points.positions, points.colors, strict=True):
        position = " ".join(repr(float(value)) for value in xyz)
        lines.append(f"{number} {position} {rgb[0]} {rgb[1]} {rgb[2]} 0.0")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
