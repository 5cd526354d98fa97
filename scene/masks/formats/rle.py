# SPDX-License-Identifier: Apache-2.0
"""Masks as COCO stores them: lengths of runs, and polygons.

Runs go down the columns and begin with the length of the first run of zeros, which may be 0. A
compressed string holds every length but the first three as the difference to the one before the
last, in groups of five bits, the lowest first; a sixth bit says that another group follows, and the
character is 48 plus the six bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.images import MAX_PIXELS

MOST_GROUPS = 6  # of five bits: lengths below 2^29, and there are fewer pixels than that
_FIRST, _MORE, _SIGN, _FIVE_BITS = 48, 32, 16, 31

Bools = NDArray[np.bool_]


def decode_rle(counts: object, height: int, width: int) -> Bools:
    """Mask bool [height, width] of a compressed string, or of the lengths themselves.

    Raises ValueError where these are no runs of exactly height * width pixels.
    """
    if isinstance(counts, bytes | str):
        lengths = _lengths_of(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        if any(not 0 <= count <= MAX_PIXELS for count in counts):
            raise ValueError("a run of pixels is negative or too long")
        lengths = np.array(counts, np.int64)
    else:
        raise ValueError("counts are neither a string nor a list of whole numbers")
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"the runs do not fill {width}x{height} pixels")
    values = (np.arange(len(lengths)) % 2).astype(bool)
    return np.ascontiguousarray(np.repeat(values, lengths).reshape(width, height).T)


def _lengths_of(text: str | bytes) -> NDArray[np.int64]:
    """The lengths that a compressed string holds."""
    data = text.encode("utf-8") if isinstance(text, str) else text
    bits = np.frombuffer(data, np.uint8).astype(np.int64) - _FIRST
    if bits.size == 0 or bits.min() < 0 or bits.max() >= 2 * _MORE or bits[-1] & _MORE:
        raise ValueError("counts are not a compressed run-length string")
    end = np.flatnonzero(bits & _MORE == 0)
    start = np.concatenate([[0], end[:-1] + 1])
    groups = end - start + 1
    if groups.max() > MOST_GROUPS:
        raise ValueError("a run of pixels is too long")
    place = np.arange(bits.size) - np.repeat(start, groups)
    numbers = np.add.reduceat((bits & _FIVE_BITS) << (5 * place), start)
    numbers[bits[end] & _SIGN != 0] -= (1 << 5 * groups)[bits[end] & _SIGN != 0]
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def encode_rle(mask: Bools) -> dict[str, Any]:
    """{"size": [height, width], "counts": compressed string} of a mask bool [height, width]."""
    flat = mask.T.ravel()
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], change, [flat.size]])).tolist()
    if flat.size and flat[0]:
        lengths.insert(0, 0)
    characters = []
    for place, length in enumerate(lengths):
        number = length - lengths[place - 2] if place > 2 else length
        while True:
            group, number = number & _FIVE_BITS, number >> 5
            # Complete when the sign bit of the last group tells what the rest is: all 0 or all 1.
            last = number == (-1 if group & _SIGN else 0)
            characters.append(chr(_FIRST + group + (0 if last else _MORE)))
            if last:
                break
    return {"size": list(mask.shape), "counts": "".join(characters)}


def polygon_mask(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> Bools:
    """Pixels [height, width] whose centre lies in one of the polygons, each [P, 2] of (x, y).

    The first pixel's centre is at (0.5, 0.5). Within one polygon the even-odd rule holds.
    """
    mask = np.zeros((height, width), bool)
    for corners in polygons:
        first, second = corners, np.roll(corners, -1, axis=0)
        low, high = np.floor(corners[:, 1].min()), np.ceil(corners[:, 1].max())
        for row in range(max(0, int(low)), min(height, int(high))):
            level = row + 0.5
            crosses = (first[:, 1] <= level) != (second[:, 1] <= level)
            one, two = first[crosses], second[crosses]
            share = (level - one[:, 1]) / (two[:, 1] - one[:, 1])
            at = np.sort(one[:, 0] + share * (two[:, 0] - one[:, 0]))
            edges = np.clip(np.ceil(at - 0.5), 0, width).astype(int)
            for left, right in edges.reshape(-1, 2):
                mask[row, left:right] = True
    return mask
