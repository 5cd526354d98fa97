# SPDX-License-Identifier: Apache-2.0
"""PLY files as named columns.

The header is checked in full, and what it promises against what the file can hold, before any
memory is asked for: a forged header cannot ask for more than a small multiple of the file's size.
After that a binary body is one read, and an ascii body goes through numpy's text reader.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.errors import DataError, FormatError
from utils.ply_header import PlyElement, PlyHeader, header_text, read_header
from utils.storage import atomic_write

Columns = dict[str, np.ndarray]
# Rows handled at a time. A file holds rows, so one pass over a column moves all of them through the
# memory; a block of this many stays in a core's own cache while every column is visited.
BLOCK_ROWS = 1 << 13
_NORMALS = frozenset({"nx", "ny", "nz"})  # tools leave them undefined; nobody here reads them


@dataclass(frozen=True, eq=False)
class PlyFile:
    """What was read of a PLY file."""

    elements: dict[str, Columns]  # columns [count], in native byte order, of the file's types
    comments: tuple[str, ...]


def read_ply(path: str | os.PathLike[str]) -> Columns:
    """Read the columns of element `vertex`, in file order, in native byte order.

    Binary of either endianness and ascii are read. Raises DataError where the file is missing, and
    FormatError for a damaged one, list properties of vertices, or values that are not finite
    (normals excepted).
    """
    columns = read_ply_file(path).elements["vertex"]
    judged = {name: column for name, column in columns.items() if name not in _NORMALS}
    if not all_finite(list(judged.values())):
        bad = {name: np.flatnonzero(~np.isfinite(column)) for name, column in judged.items()}
        name, rows = next((name, rows) for name, rows in bad.items() if len(rows))
        raise FormatError(
            f"{path}: column {name!r} is not finite in {len(rows)} rows, first in row {rows[0]}"
        )
    return columns


def read_ply_file(path: str | os.PathLike[str], also: Collection[str] = ()) -> PlyFile:
    """Read element `vertex`, and those of `also` that there are, whatever their values.

    Raises DataError where the file cannot be read, and FormatError for a damaged one, or for list
    properties at or before the last element asked for. What follows that element is not read.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            header = read_header(stream, path)
            asked = [e.name for e in header.elements if e.name == "vertex" or e.name in also]
            leading = _leading_elements(header, asked, path)
            _check_size(leading, header, os.fstat(stream.fileno()).st_size - header.length, path)
            stream.seek(header.length)
            read = _read_ascii if header.is_ascii else _read_binary
            elements = {e.name: read(stream, e, header, path) for e in leading}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return PlyFile({name: elements[name] for name in asked}, header.comments)


def all_finite(columns: Sequence[np.ndarray]) -> bool:
    """Whether no value of `columns` (each [N]) is NaN or infinite."""
    runs = _runs([column for column in columns if column.dtype.kind == "f"])
    for start in range(0, len(runs[0]) if runs else 0, BLOCK_ROWS):
        for run in runs:
            block = run[start : start + BLOCK_ROWS]
            with np.errstate(over="ignore", invalid="ignore"):
                total = block.sum()
            # A finite sum has finite terms only; finite terms may still sum to infinity.
            if not np.isfinite(total) and not np.isfinite(block).all():
                return False
    return True


def stacked(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Columns [N] side by side, as a new float32 array [N, count]; beyond its range infinite."""
    runs = _runs(columns)
    result = np.empty((len(columns[0]), len(columns)), np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, len(result), BLOCK_ROWS):
            rows, first = slice(start, start + BLOCK_ROWS), 0
            for run in runs:
                result[rows, first : first + run.shape[1]] = run[rows]
                first += run.shape[1]
    return result


def _runs(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The columns in order as few arrays [N, k]: views of those that lie side by side in rows.

    A run is handled at the speed of the memory, its columns one by one at a fraction of that.
    """
    runs: list[list[np.ndarray]] = []
    for column in columns:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and (last.dtype, last.strides) == (column.dtype, column.strides)
            and column.strides[0] > column.itemsize
            and column.ctypes.data == last.ctypes.data + column.itemsize
        ):
            runs[-1].append(column)
        else:
            runs.append([column])
    return [
        np.lib.stride_tricks.as_strided(
            run[0], (len(run[0]), len(run)), (*run[0].strides, run[0].itemsize), writeable=False
        )
        for run in runs
    ]


def write_ply(
    path: str | os.PathLike[str], columns: Mapping[str, np.ndarray], comments: Sequence[str] = ()
) -> None:
    """Write `columns` (each [N]) as a binary little-endian PLY, whole or not at all.

    Types stay as they are where PLY has them. Booleans become bytes, 64-bit integers 32-bit ones,
    half precision single precision. Raises ValueError for what does not fit; errors of the disk as
    `atomic_write`.
    """
    size = sum(np.asarray(column).nbytes for column in columns.values())
    atomic_write(path, lambda stream: dump_ply(stream, columns, comments), size)


def dump_ply(
    stream: BinaryIO, columns: Mapping[str, np.ndarray], comments: Sequence[str] = ()
) -> None:
    """Write `columns` into an open binary stream; see `write_ply`."""
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if not shapes or len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"expected columns of one common length [N], got {shapes}")
    types = {name: _file_type(name, array) for name, array in arrays.items()}
    count = len(next(iter(arrays.values())))
    stream.write(header_text(count, types, comments))
    row = np.dtype([(name, f"<{code}") for name, code in types.items()])
    block = np.empty(min(count, BLOCK_ROWS), row)
    for start in range(0, count, BLOCK_ROWS):
        rows = block[: min(BLOCK_ROWS, count - start)]
        for name, array in arrays.items():
            rows[name] = array[start : start + BLOCK_ROWS]
        stream.write(rows.view(np.uint8).data)


def row_bytes(columns: Mapping[str, np.ndarray]) -> int:
    """Bytes that one row of `columns` takes in the file."""
    return sum(int(_file_type(name, column)[1]) for name, column in columns.items())


def _file_type(name: str, column: np.ndarray) -> str:
    """Code of the PLY type that holds `column`."""
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind == "b":
        return "u1"
    if kind == "f":
        return "f8" if size >= 8 else "f4"
    if kind not in "iu":
        raise ValueError(f"column {name!r} of type {column.dtype} has no place in a PLY file")
    if size <= 4:
        return f"{kind}{size}"
    limits = np.iinfo(np.int32)
    if column.size and (column.min() < limits.min or column.max() > limits.max):
        raise ValueError(f"column {name!r} does not fit 32-bit integers")
    return "i4"


def _leading_elements(header: PlyHeader, asked: list[str], path: Path) -> list[PlyElement]:
    """The elements up to the last one that is asked for, in file order."""
    names = [element.name for element in header.elements]
    if "vertex" not in asked:
        raise FormatError(f"{path}: expected one element 'vertex', got {names}")
    leading = list(header.elements[: 1 + max(names.index(name) for name in asked)])
    if any(element.has_list for element in leading):
        raise FormatError(
            f"{path}: list properties at or before element {leading[-1].name!r} are not supported"
        )
    return leading


def _check_size(elements: list[PlyElement], header: PlyHeader, body: int, path: Path) -> None:
    """Refuse counts that the bytes after the header cannot hold."""
    for element in elements:
        if not element.types:
            raise FormatError(f"{path}: element {element.name!r} has no properties")
    # In ascii a value takes at least a digit and a separator.
    needed = sum(
        e.count * (2 * len(e.types) if header.is_ascii else e.row_type().itemsize) for e in elements
    )
    if needed - (1 if header.is_ascii else 0) > body:
        raise FormatError(
            f"{path}: the header promises {elements[-1].count} rows of element "
            f"{elements[-1].name!r} ({needed} bytes), but {max(body, 0)} bytes follow it; "
            "the file is truncated"
        )


def _read_binary(stream: BinaryIO, element: PlyElement, header: PlyHeader, path: Path) -> Columns:
    rows = np.empty(element.count, element.row_type(header.byte_order))
    if stream.readinto(rows.view(np.uint8).data) != rows.nbytes:  # type: ignore[attr-defined]
        raise FormatError(f"{path}: the file became shorter while it was read")
    return {
        name: np.asarray(rows[name], dtype=rows.dtype[name].newbyteorder("="))
        for name in element.types
    }


def _read_ascii(stream: BinaryIO, element: PlyElement, header: PlyHeader, path: Path) -> Columns:
    lines = [line.decode("latin-1") for line in itertools.islice(stream, element.count)]
    lines = [line for line in lines if line.strip()]
    values = np.empty((0, len(element.types)))
    if lines:
        try:
            values = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
        except ValueError as error:
            reason = str(error).partition(";")[0]
            raise FormatError(f"{path}: element {element.name!r}: {reason}") from None
    if values.shape != (element.count, len(element.types)):
        raise FormatError(
            f"{path}: element {element.name!r} has {values.shape[0]} rows of {values.shape[1]} "
            f"values, the header promises {element.count} of {len(element.types)}"
        )
    columns = zip(element.types.items(), values.T, strict=True)
    return {name: _ascii_column(name, code, column, path) for (name, code), column in columns}


def _ascii_column(name: str, code: str, column: np.ndarray, path: Path) -> np.ndarray:
    if code[0] != "f":
        limits = np.iinfo(code)
        good = (column == np.floor(column)) & (column >= limits.min) & (column <= limits.max)
        if not good.all():
            row = np.flatnonzero(~good)[0]
            raise FormatError(
                f"{path}: column {name!r} of whole numbers has {column[row]} in row {row}"
            )
    with np.errstate(over="ignore"):  # beyond float32: infinite, which the caller judges
        return column.astype(code)
