# SPDX-License-Identifier: Apache-2.0
"""Masks as numpy arrays: .npy and .npz. Nothing is unpickled, nothing allocated on a header's word.

A 2-D array of whole numbers is an id map, -1 = no target. A 3-D one [M, H, W] is a stack of masks
that may overlap: binary ones, or one id map for each level of a hierarchy where it holds other
numbers than 0 and 1 (0 and -1 = no mask there). An .npz holds one such array, beside a binary stack
also `ids`, `score`, `level`, `scale` [M] and `ignored` [H, W] (bool, no target) where known.
"""

from __future__ import annotations

import math
import struct
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from scene.masks.formats.content import IdPixels, MaskContent
from scene.masks.records import LARGEST_ID, MaskLayers
from utils.errors import MaskError
from utils.images import MAX_PIXELS
from utils.storage import atomic_write

COLUMNS = ("ids", "score", "level", "scale")  # [M] beside a stack
MOST_LAYERS = 65_535
MOST_LAYER_PIXELS = 16 * MAX_PIXELS  # of all layers of a file together: 358 MB as bits
MOST_DEFLATED = 1_032  # bytes that deflate makes of one
_SLACK = 1 << 20
# numpy parses headers with `ast`, whose recursion counter Python 3.11 shares between threads: two
# that parse at once end in a SystemError (python/cpython#106905).
_PARSING = threading.Lock()
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RuntimeError,  # zipfile: encrypted, an unknown compression
    struct.error,
    tokenize.TokenError,  # numpy reads headers of Python 2 with it
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class _Array:
    """An array that is announced by its header and not read yet."""

    stream: IO[bytes]
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    def read(self) -> NDArray[Any]:
        """The whole array."""
        array = _numbers(self.stream, self.dtype, math.prod(self.shape))
        return array.reshape(self.shape, order="F" if self.fortran else "C")

    def slices(self) -> Iterator[NDArray[Any]]:
        """The parts [H, W] of a stack [M, H, W], one after another where the order allows it."""
        if self.fortran:
            yield from self.read()
            return
        for _ in range(self.shape[0]):
            part = _numbers(self.stream, self.dtype, math.prod(self.shape[1:]))
            yield part.reshape(self.shape[1:])


def _numbers(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise EOFError("the file ends early")
    return np.frombuffer(data, dtype)


def _announced(path: Path, stream: IO[bytes], room: int) -> _Array:
    """The array that follows in the stream; `room`: bytes that the rest can have at most."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    with _PARSING:
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        else:
            header = np.lib.format.read_array_header_2_0(stream)
    shape, fortran, dtype = header
    if dtype.hasobject or dtype.kind not in "iubf":
        raise MaskError(f"{path}: an array of {dtype}; expected whole numbers", "ids")
    if any(side < 1 for side in shape) or math.prod(shape) * dtype.itemsize > room:
        raise MaskError(
            f"{path}: claims an array of {'x'.join(map(str, shape))}, for which the file is too "
            "small; it is empty or damaged",
            "unreadable",
        )
    return _Array(stream, tuple(shape), bool(fortran), dtype)


def read_array(path: Path) -> MaskContent:
    """The masks of a .npy or .npz file. Raises MaskError."""
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return _archive_content(path, archive)
        with path.open("rb") as stream:
            array = _announced(path, stream, path.stat().st_size)
            return _content(path, array, {})
    except FileNotFoundError as error:
        raise MaskError(f"{path}: no such file", "unreadable") from error
    except _DAMAGED as error:
        raise MaskError(
            f"{path}: not a readable numpy file ({type(error).__name__}: {error}); write it with "
            "numpy.save or numpy.savez",
            "unreadable",
        ) from error


def _archive_content(path: Path, archive: zipfile.ZipFile) -> MaskContent:
    """The one array of masks in an archive, with its columns."""
    columns: dict[str, NDArray[Any]] = {}
    masks = []
    for member in archive.infolist():
        room = min(member.file_size, MOST_DEFLATED * member.compress_size + _SLACK)
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as stream:
            array = _announced(path, stream, room)
            if (name in COLUMNS and len(array.shape) == 1) or name == "ignored":
                columns[name] = array.read()
            elif len(array.shape) > 1:
                masks.append((member, room, name))
    if len(masks) != 1:
        names = ", ".join(name for _, _, name in masks[:5]) or "none"
        raise MaskError(f"{path}: expected one array of masks, found {names}", "ids")
    member, room, _ = masks[0]
    with archive.open(member) as stream:
        return _content(path, _announced(path, stream, room), columns)


def _content(path: Path, array: _Array, columns: dict[str, NDArray[Any]]) -> MaskContent:
    shape = tuple(side for side in array.shape if side > 1 or len(array.shape) == 2)
    if array.dtype.kind == "f":
        raise MaskError(
            f"{path}: an array of {array.dtype}; ids are whole numbers: save array.astype('int32')",
            "ids",
        )
    if len(array.shape) == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        raise MaskError(
            f"{path}: a colour picture [H, W, {array.shape[2]}] and no ids; save it as PNG if its "
            "colours are ids",
            "picture",
        )
    if len(shape) not in (2, 3) or len(array.shape) > 3:
        raise MaskError(
            f"{path}: an array of {'x'.join(map(str, array.shape))}; expected ids [H, W] or masks "
            "[M, H, W]",
            "ids",
        )
    pixels, layers = math.prod(shape[-2:]), math.prod(shape[:-2])
    if pixels > MAX_PIXELS or layers > MOST_LAYERS or pixels * layers > MOST_LAYER_PIXELS:
        raise MaskError(f"{path}: too many pixels ({'x'.join(map(str, shape))})", "unreadable")
    if len(shape) == 2:
        return MaskContent.of_map(array.read().reshape(shape))
    return _stack(path, array, columns)


def _stack(path: Path, array: _Array, columns: dict[str, NDArray[Any]]) -> MaskContent:
    """Layers of a stack [M, H, W]; see the module."""
    count, height, width = array.shape
    found: list[tuple[int, int, NDArray[np.uint8]]] = []  # (slice, number in it, bits)
    hierarchy = False
    for level, part in enumerate(array.slices()):
        values = IdPixels.from_map(part).values
        hierarchy |= bool(values[0] < 0 or values[-1] > 1)
        values = values[values > 0]
        if (len(found) + len(values)) * height * width > MOST_LAYER_PIXELS:
            raise MaskError(f"{path}: too many masks in one file", "unreadable")
        found += [(level, int(value), np.packbits(part == value)) for value in values]
    packed = np.zeros((len(found) if hierarchy else count, -(-height * width // 8)), np.uint8)
    for row, (index, _, bits) in enumerate(found):
        packed[row if hierarchy else index] = bits
    if hierarchy:
        levels, numbers = np.array([f[0] for f in found]), np.array([f[1] for f in found])
        layers = MaskLayers.from_bits((height, width), packed, numbers, level=levels)
        return MaskContent.of_layers(layers, "view")
    known = {name: _column(path, name, columns.get(name), count) for name in COLUMNS}
    ids, ignored = known.pop("ids"), columns.get("ignored")
    if ignored is not None:
        if ignored.shape != (height, width) or ignored.dtype != np.bool_:
            raise MaskError(f"{path}: ignored is no bool array of {height}x{width}", "ids")
        ignored = np.packbits(ignored)
    layers = MaskLayers.from_bits((height, width), packed, ids, **known, ignored=ignored)
    return MaskContent.of_layers(layers, "view" if ids is None else "ids")


def _column(path: Path, name: str, column: NDArray[Any] | None, count: int) -> NDArray[Any] | None:
    """One of COLUMNS, checked; None where the file has none."""
    if column is None:
        return None
    kinds = "iu" if name in ("ids", "level") else "iuf"
    if column.shape != (count,) or column.dtype.kind not in kinds:
        raise MaskError(
            f"{path}: {name} is {column.dtype} of {column.shape}; expected one number for each of "
            f"the {count} masks",
            "ids",
        )
    if name == "ids" and not 0 < column.min() <= column.max() <= LARGEST_ID:
        raise MaskError(f"{path}: ids of masks must be 1..{LARGEST_ID}", "ids")
    return column


def write_array(path: Path, content: MaskContent) -> None:
    """A map as int32 .npy, layers as a bool stack with its columns in an .npz. RunError."""
    if path.suffix.lower() == ".npy":
        ids = content.flat().map().astype(np.int32)
        atomic_write(path, lambda stream: np.save(stream, ids, allow_pickle=False))
        return
    layers = content.as_layers()
    columns: dict[str, Any] = {
        "score": layers.score,
        "level": layers.level,
        "scale": layers.scale,
    }
    if content.coding != "view":
        columns["ids"] = layers.source
    if layers.ignored is not None:
        columns["ignored"] = layers.ignored_mask()
    atomic_write(path, lambda stream: np.savez_compressed(stream, masks=layers.unpack(), **columns))
