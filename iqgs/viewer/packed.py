# SPDX-License-Identifier: Apache-2.0
"""Labelled splats as few bytes, for a page that a browser opens without a server.

Rows are sorted by object and, within one, along a Morton curve; 256 of them at most make a chunk,
which never crosses objects. Positions, logarithmic scales and colours are whole numbers between the
least and the greatest value of their chunk, so that far splats cost near ones no precision.
Quaternions are their three smallest components with ten bits each. Colours are those of degree 0
of the harmonics. `docs/viewer.md` has the layout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqgs.objects.labelled import LabelledSplats
from utils.colors import id_color
from utils.spherical_harmonics import sh_dc_to_rgb

FORMAT = "iqgs-splats-1"
CHUNK = 256
_MORTON_BITS = 10
_ROOT = math.sqrt(0.5)  # no component but the greatest of a unit quaternion exceeds it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PackedSplats:
    """What a page needs to draw splats.

    `order` [N]: which row of the input stands where. `header` is JSON and says where each column
    of `data` begins: `ranges` float32 [C, 2, W] (least and greatest of each value in a chunk),
    `means` uint16 [N, 3], `log_scales` uint8 [N, D], `colors` uint8 [N, 3], `quaternions` uint32
    [N], `opacities` uint8 [N]; little-endian.
    """

    header: dict[str, Any]
    data: bytes
    order: NDArray[np.int64]


def pack(objects: LabelledSplats) -> PackedSplats:
    """Quantise; the position of a splat is off by at most 1/131070 of its chunk's extent."""
    raw = {name: p.detach().cpu() for name, p in objects.splats.params.items()}
    means = raw["means"].numpy().astype(np.float64)
    labels = objects.labels.numpy()
    order = np.lexsort((_morton(means), labels))
    labels = labels[order]
    chunks = _chunks(labels)
    scales = raw["log_scales"].numpy()[order]
    colors = sh_dc_to_rgb(raw["sh_dc"][:, 0]).clamp_min(0).numpy()[order]
    columns: dict[str, NDArray[Any]] = {}
    ranges = []
    for name, values, kind in (
        ("means", means[order], np.uint16),
        ("log_scales", scales, np.uint8),
        ("colors", colors, np.uint8),
    ):
        columns[name], limits = _quantised(values.astype(np.float64), chunks, kind)
        ranges.append(limits)
    columns["quaternions"] = _smallest_three(raw["quaternions"].numpy()[order])
    opacity = raw["opacity_logits"].sigmoid().numpy()[order, 0]
    columns["opacities"] = (opacity * 255 + 0.5).astype(np.uint8)
    columns = {"ranges": np.concatenate(ranges, axis=2), **columns}  # widest type first: aligned
    header = {
        "format": FORMAT,
        "kind": objects.splats.kind,
        "count": len(labels),
        "chunk": CHUNK,
        "objects": list(_objects(objects, labels, means[order])),
    }
    return PackedSplats(*_joined(header, columns), order)


def _objects(
    objects: LabelledSplats, labels: NDArray[np.int64], means: Floats
) -> Iterator[dict[str, Any]]:
    """The objects in the order of their rows; 0 is what belongs to none."""
    numbers, firsts, counts = np.unique(labels, return_index=True, return_counts=True)
    for number, first, count in zip(
        numbers.tolist(), firsts.tolist(), counts.tolist(), strict=True
    ):
        rows = means[first : first + count]
        box = {"low": rows.min(0).tolist(), "high": rows.max(0).tolist()}
        yield {**list_entry(objects, number, count), **box}


def list_entry(objects: LabelledSplats, number: int, count: int) -> dict[str, Any]:
    """What a list says of an object of so many splats; 0 is what belongs to none."""
    unnamed = f"object {number}" if number else "no object"
    color = id_color(np.array([number]))[0].tolist() if number else [110] * 3
    return {
        "id": number,
        "name": objects.names.get(number, unnamed),
        "count": count,
        "color": color,
        **({"parent": objects.parents[number]} if number in objects.parents else {}),
    }


def _chunks(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """First rows of the chunks of sorted labels."""
    _, firsts, counts = np.unique(labels, return_index=True, return_counts=True)
    return np.concatenate(
        [np.arange(f, f + c, CHUNK) for f, c in zip(firsts, counts, strict=True)] or [np.zeros(0)]
    ).astype(np.int64)


def _quantised(
    values: Floats, chunks: NDArray[np.int64], kind: type[np.unsignedinteger[Any]]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Values [N, W] as whole numbers in the ranges [C, 2, W] of their chunks, and these."""
    low = np.minimum.reduceat(values, chunks).astype(np.float32)
    high = np.maximum.reduceat(values, chunks).astype(np.float32)
    sizes = np.diff(np.append(chunks, len(values)))
    steps = np.iinfo(kind).max
    span = np.maximum(high.astype(np.float64) - low, 1e-30)
    share = (values - np.repeat(low, sizes, 0)) / np.repeat(span, sizes, 0)
    numbers = np.rint(share.clip(0, 1) * steps).astype(kind)
    return numbers, np.stack([low, high], axis=1)


def _smallest_three(quaternions: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Which of (w, x, y, z) is greatest, two bits, and the other three, ten bits each."""
    unit = quaternions.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-30)
    greatest = np.abs(unit).argmax(axis=1)
    rows = np.arange(len(unit))
    unit *= np.where(unit[rows, greatest] < 0, -1.0, 1.0)[:, None]
    packed = greatest.astype(np.uint32)
    for step in (1, 2, 3):
        other = unit[rows, (greatest + step) % 4]
        number = np.rint((other / _ROOT * 0.5 + 0.5).clip(0, 1) * 1023).astype(np.uint32)
        packed = (packed << np.uint32(10)) | number
    return packed


def _morton(means: Floats) -> NDArray[np.int64]:
    """Place of each position [N, 3] on a Morton curve through the bulk of all."""
    low, high = np.percentile(means, [1, 99], axis=0)
    cell = (means - low) / np.maximum(high - low, 1e-12) * (2**_MORTON_BITS - 1)
    cells = cell.clip(0, 2**_MORTON_BITS - 1).astype(np.int64)
    place = np.zeros(len(means), np.int64)
    for bit in range(_MORTON_BITS):
        for axis in range(3):
            place |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return place


def _joined(
    header: dict[str, Any], columns: dict[str, NDArray[Any]]
) -> tuple[dict[str, Any], bytes]:
    """The header with the places of the columns, and the columns one after the other."""
    places, parts, offset = {}, [], 0
    for name, column in columns.items():
        data = np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<")).tobytes()
        data += b"\0" * (-len(data) % 4)
        places[name] = {
            "offset": offset,
            "type": column.dtype.name,
            "shape": list(column.shape),
        }
        parts.append(data)
        offset += len(data)
    return {**header, "columns": places}, b"".join(parts)
