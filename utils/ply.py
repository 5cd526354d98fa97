# SPDX-License-Identifier: Apache-2.0
"""PLY files as named vertex columns.

plyfile does the grammar, the byte order and the ascii variant. What it would allocate is checked
first against what the file can hold, so a forged header cannot ask for more memory than its size.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from utils.errors import DataError, FormatError

MAX_HEADER = 1 << 16  # bytes; 77 properties take about 2 000
_NORMALS = frozenset({"nx", "ny", "nz"})  # tools leave them undefined; nobody here reads them
_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
_HEADER_END = re.compile(rb"(?:^|\n)end_header\r?\n")


@dataclass
class _Element:
    name: str
    count: int
    row_bytes: int = 0  # of the scalar properties
    properties: int = 0
    has_list: bool = False
    line: int = 0


@dataclass(frozen=True)
class _Header:
    lines: list[str]
    length: int  # bytes up to and including end_header
    ascii: bool
    elements: list[_Element]


def read_ply(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the columns of element `vertex`, in file order, in native byte order.

    Binary of either endianness and ascii are read. Raises DataError where the file is missing, and
    FormatError for a damaged one, list properties of vertices, or values that are not finite
    (normals excepted).
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            header = _read_header(stream, path)
            columns = _read_vertices(stream, header, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    for name, column in columns.items():
        if name not in _NORMALS and column.dtype.kind == "f":
            _check_finite(name, column, path)
    return columns


def write_ply(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write `columns` (each [N]) as a binary little-endian PLY, through a temporary beside `path`.

    Booleans and integers keep an integer type (64 bits become 32); all else becomes float32.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.0.tmp")
    try:
        with open(temporary, "wb") as stream:
            dump_ply(stream, columns)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def dump_ply(stream: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
    """Write `columns` into an open binary stream; see `write_ply`."""
    lengths = {name: np.shape(column) for name, column in columns.items()}
    if not lengths or len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1:
        raise ValueError(f"expected columns of one common length [N], got {lengths}")
    types = [(name, _file_type(name, np.asarray(c))) for name, c in columns.items()]
    rows = np.empty(next(iter(lengths.values())), dtype=types)
    for name, column in columns.items():
        rows[name] = column
    header = PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").header
    stream.write(header.encode("ascii") + b"\n")
    # Not by plyfile: numpy's tofile hides the reason (disk full) when a write fails.
    stream.write(rows.view(np.uint8).data)


def _file_type(name: str, column: np.ndarray) -> str:
    if column.dtype.kind == "b":
        return "u1"
    if column.dtype.kind not in "iu":
        return "<f4"
    if column.dtype.itemsize < 4:
        return f"<{column.dtype.kind}{column.dtype.itemsize}"
    limits = np.iinfo(np.int32)
    if column.size and (column.min() < limits.min or column.max() > limits.max):
        raise ValueError(f"column {name!r} does not fit 32-bit integers")
    return "<i4"


def _read_header(stream: BinaryIO, path: Path) -> _Header:
    start = stream.read(MAX_HEADER)
    end = _HEADER_END.search(start)
    if not start.startswith((b"ply\n", b"ply\r\n")) or end is None:
        raise FormatError(f"{path}: not a PLY file (no 'ply' ... 'end_header' in its beginning)")
    try:
        text = start[: end.end()].decode("ascii")
    except UnicodeDecodeError:
        raise FormatError(f"{path}: the PLY header holds bytes that are not ASCII") from None
    lines = text.replace("\r\n", "\n").split("\n")
    if "\r" in text.replace("\r\n", "\n") or not lines[1].startswith("format "):
        raise FormatError(f"{path}: the PLY header must give its format in the second line")
    elements: list[_Element] = []
    for number, line in enumerate(lines):
        _read_header_line(line, number, elements, path)
    return _Header(lines, end.end(), lines[1].split()[1:2] == ["ascii"], elements)


def _read_header_line(line: str, number: int, elements: list[_Element], path: Path) -> None:
    """Add what one header line declares; plyfile judges the lines that we do not need."""
    words = line.split()
    if words[:1] == ["element"]:
        if len(words) != 3 or not re.fullmatch(r"[0-9]{1,18}", words[2]):
            raise FormatError(f"{path}: header line {number + 1} is not 'element NAME COUNT'")
        elements.append(_Element(words[1], int(words[2]), line=number))
    elif words[:1] == ["property"]:
        if not elements or len(words) < 3:
            raise FormatError(f"{path}: header line {number + 1} is not a property of an element")
        element = elements[-1]
        element.properties += 1
        if words[1] == "list":
            element.has_list = True
        elif words[1] in _SIZES:
            element.row_bytes += _SIZES[words[1]]
        else:
            raise FormatError(f"{path}: unknown PLY type {words[1]!r} in header line {number + 1}")


def _read_vertices(stream: BinaryIO, header: _Header, path: Path) -> dict[str, np.ndarray]:
    names = [element.name for element in header.elements]
    if names.count("vertex") != 1:
        raise FormatError(f"{path}: expected one element 'vertex', got {names}")
    wanted = header.elements[: names.index("vertex") + 1]
    if any(element.has_list for element in wanted):
        raise FormatError(
            f"{path}: list properties at or before element 'vertex' are not supported"
        )
    _check_size(wanted, header, os.fstat(stream.fileno()).st_size - header.length, path)
    source = _without_rest(stream, header, wanted)
    try:
        with np.errstate(over="ignore"):  # an ascii number beyond its type: infinite, refused later
            rows = PlyData.read(source, mmap=False)["vertex"].data
    except (PlyParseError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise FormatError(f"{path}: damaged PLY: {error}") from None
    return {
        name: np.asarray(rows[name], dtype=rows.dtype[name].newbyteorder("="))
        for name in rows.dtype.names or ()
    }


def _check_size(elements: list[_Element], header: _Header, body: int, path: Path) -> None:
    """Refuse counts that the bytes after the header cannot hold."""
    for element in elements:
        if element.properties == 0:
            raise FormatError(f"{path}: element {element.name!r} has no properties")
    # In ascii a value takes at least a digit and a separator.
    needed = sum(e.count * (2 * e.properties if header.ascii else e.row_bytes) for e in elements)
    if needed - (1 if header.ascii else 0) > body:
        raise FormatError(
            f"{path}: the header promises {elements[-1].count} vertices ({needed} bytes), "
            f"but {max(body, 0)} bytes follow it; the file is truncated"
        )


def _without_rest(stream: BinaryIO, header: _Header, wanted: list[_Element]) -> BinaryIO:
    """The stream itself, or a copy without the elements after the vertices (faces of a mesh)."""
    stream.seek(0)
    if len(wanted) == len(header.elements):
        return stream
    lines = [*header.lines[: header.elements[len(wanted)].line], "end_header", ""]
    stream.seek(header.length)
    if header.ascii:
        body = b"".join(stream.readline() for _ in range(sum(e.count for e in wanted)))
    else:
        body = stream.read(sum(e.count * e.row_bytes for e in wanted))
    return io.BytesIO("\n".join(lines).encode("ascii") + body)


def _check_finite(name: str, column: np.ndarray, path: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(column))
    if len(bad):
        raise FormatError(
            f"{path}: column {name!r} is not finite in {len(bad)} rows, first in row {bad[0]}"
        )
