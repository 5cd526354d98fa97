# SPDX-License-Identifier: Apache-2.0
"""The compressed PLY that SuperSplat and splat-transform write.

Element `chunk` bounds each 256 splats of element `vertex`: positions, logarithmic scales and (in
newer files) colours. A splat is four words: `packed_position` and `packed_scale` hold x, y, z in
11, 10 and 11 bits from the top, as shares of the way from the chunk's least value to its greatest;
`packed_rotation` two bits for the largest component of (w, x, y, z), which is positive and left
out, and ten for each other one, from -1/sqrt(2) to 1/sqrt(2); `packed_color` a byte each for red,
green, blue and opacity. Element `sh`, where there is one, has a byte for each `f_rest`: a cell of
256 equal ones from -4 to 4.
Source: public descriptions of the format, checked against files that splat-transform 2.7.1 wrote.
"""

from __future__ import annotations

import math

import numpy as np

from scene.splat_files.columns import Arrays
from utils.errors import FormatError
from utils.spherical_harmonics import DC_BASIS

CHUNK_ELEMENTS = ("chunk", "sh")  # to be read beside `vertex`
_CHUNK_SIZE = 256
_REST_LIMIT = 4.0
_WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")


def is_compressed(vertex: Arrays) -> bool:
    """Whether the columns of element `vertex` are packed ones."""
    return _WORDS[0] in vertex


def unpacked(elements: dict[str, Arrays], path: str) -> Arrays:
    """The columns of an ordinary splat PLY (three scales, float32) from those of a compressed one.

    Raises FormatError where columns are missing or the counts of the elements disagree.
    """
    vertex, chunk = elements["vertex"], elements.get("chunk", {})
    channels = ["x", "y", "z", "scale_x", "scale_y", "scale_z", *("rgb" * ("min_r" in chunk))]
    bounds = [f"{end}_{channel}" for channel in channels for end in ("min", "max")]
    absent = [name for name in bounds if name not in chunk]
    absent += [name for name in _WORDS if name not in vertex or vertex[name].dtype != np.uint32]
    if absent:
        raise FormatError(f"{path}: a compressed PLY without the column {absent[0]!r}")
    n, rest = len(vertex[_WORDS[0]]), elements.get("sh", {})
    counts = {len(column) for column in rest.values()}
    if len(chunk["min_x"]) != -(-n // _CHUNK_SIZE) or counts - {n}:
        raise FormatError(
            f"{path}: a compressed PLY whose elements disagree: {n} splats, {len(chunk['min_x'])} "
            f"chunks of {_CHUNK_SIZE}, {counts or 0} rows of harmonics"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged chunk; its splats are dropped
        return _values(vertex, chunk, rest)


def _values(vertex: Arrays, chunk: Arrays, rest: Arrays) -> Arrays:
    position, rotation, scale, color = (vertex[name] for name in _WORDS)
    columns = {}
    for index, (axis, shift, bits) in enumerate((("x", 21, 11), ("y", 11, 10), ("z", 0, 11))):
        columns[axis] = _between(_share(position, shift, bits), chunk, axis)
        columns[f"scale_{index}"] = _between(_share(scale, shift, bits), chunk, f"scale_{axis}")
    for index, channel in enumerate("rgb"):
        share = _share(color, 24 - 8 * index, 8)
        shown = _between(share, chunk, channel) if "min_r" in chunk else share
        columns[f"f_dc_{index}"] = (shown - 0.5) / np.float32(DC_BASIS)
    columns["opacity"] = _logits(color & 0xFF)
    columns.update(_rotations(rotation))
    for index, column in enumerate(rest.values()):
        # The middle of its cell; the outermost cells also hold what lies beyond the limits.
        cell = column.astype(np.float32) + 0.5
        columns[f"f_rest_{index}"] = cell * (2 * _REST_LIMIT / 256) - _REST_LIMIT
    return columns


def _share(words: np.ndarray, shift: int, bits: int) -> np.ndarray:
    """`bits` bits of each word, from bit `shift` up, as float32 from 0 to 1."""
    largest = (1 << bits) - 1
    return ((words >> np.uint32(shift)) & np.uint32(largest)).astype(np.float32) / largest


def _between(share: np.ndarray, chunk: Arrays, channel: str) -> np.ndarray:
    low, high = (chunk[f"{end}_{channel}"].astype(np.float32) for end in ("min", "max"))
    bounds = np.repeat(np.stack([low, high - low]), _CHUNK_SIZE, axis=1)[:, : len(share)]
    return bounds[0] + share * bounds[1]


def _logits(opacity: np.ndarray) -> np.ndarray:
    """Bytes as logits; the outermost ones stand for half a step, so that none is infinite."""
    share = np.clip(opacity.astype(np.float32), 0.25, 254.75) / 255
    return np.log(share / (1 - share))


def _rotations(words: np.ndarray) -> Arrays:
    largest = (words >> np.uint32(30)).astype(np.int64)
    others = [(_share(words, shift, 10) - 0.5) * math.sqrt(2) for shift in (20, 10, 0)]
    squares = sum(other * other for other in others)
    left_out = np.sqrt(np.maximum(1 - squares, 0))
    return {
        f"rot_{i}": np.where(
            largest == i, left_out, np.where(largest > i, others[min(i, 2)], others[max(i - 1, 0)])
        )
        for i in range(4)
    }
