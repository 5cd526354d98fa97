# SPDX-License-Identifier: Apache-2.0
"""From a pile of proposed masks to few good ones, and to one id for each pixel.

Models of the SAM family answer each point with masks of several extents, so a pile holds things,
their parts and their surroundings, most of them several times. In order: holes are filled and
specks removed, tiny and huge masks dropped, of equal masks the best kept, parts put below what
contains them, and then a pixel goes to the smallest of its masks: small objects are never eaten by
large ones. All functions are pure.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from arguments.masks import MergeParams
from scene.masks import NO_TARGET, MaskLayers

_BLOCK = 1 << 14  # bytes of packed pixels that are looked at together
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]


def merge(layers: MaskLayers, params: MergeParams) -> MaskLayers:
    """The masks that are worth keeping, the largest first, with the level of each.

    Sources are kept: the caller knows what they mean.
    """
    pixels = layers.height * layers.width
    layers = clean(layers, params.fill_area * pixels)
    areas = layers.areas()
    good = (areas >= max(params.min_area * pixels, 1)) & (areas <= params.max_area * pixels)
    layers = layers.select(good)
    shared = intersections(layers)
    keep = distinct(layers, shared, params.duplicate_iou)
    keep = keep[np.argsort(-layers.areas()[keep], kind="stable")]
    layers, shared = layers.select(keep), shared[np.ix_(keep, keep)]
    return replace(layers, level=levels(shared, params.contained))


def clean(layers: MaskLayers, area: float) -> MaskLayers:
    """Masks without holes and islands of fewer than `area` pixels.

    A hole is surrounded by its mask; a notch at the border of the image is none. The largest island
    of a mask always stays.
    """
    if area <= 1:
        return layers
    packed = layers.packed.copy()
    for index in range(len(layers)):
        mask = layers.mask(index)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            continue
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        fresh = mask.copy()
        fresh[box] = _without_islands(_without_holes(mask[box], area), area)
        packed[index] = np.packbits(fresh)
    return replace(layers, packed=packed)


def _without_holes(mask: Bools, area: float) -> Bools:
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    # 4-connected, because masks are 8-connected: two pixels that touch in a corner close a hole.
    _, regions, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < area
    small[[0, regions[0, 0]]] = False  # the mask itself, and what reaches round it
    return np.asarray(mask | small[regions][1:-1, 1:-1])


def _without_islands(mask: Bools, area: float) -> Bools:
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    large = sizes >= area
    large[1 + int(np.argmax(sizes[1:]))] = True
    large[0] = False
    return np.asarray(large[regions])


def intersections(layers: MaskLayers) -> Counts:
    """Common pixels of each two masks [M, M]; the diagonal holds the areas."""
    shared = np.zeros((len(layers), len(layers)), np.int64)
    for start in range(0, layers.packed.shape[1], _BLOCK):
        bits = np.unpackbits(layers.packed[:, start : start + _BLOCK], axis=1)
        # Neighbours in a row mostly lie in the same masks: one column stands for all of them.
        changes = (bits[:, 1:] != bits[:, :-1]).any(axis=0)
        first = np.concatenate([[0], np.flatnonzero(changes) + 1])
        length = np.diff(first, append=bits.shape[1])
        inside = sparse.csr_array(bits[:, first], dtype=np.int64)
        shared += (inside.multiply(length[None, :]).tocsr() @ inside.T).toarray()
    return shared


def distinct(layers: MaskLayers, shared: Counts, iou: float) -> NDArray[np.intp]:
    """Positions of the masks that stay when of two with a larger IoU the better one does.

    The best mask is taken first; among equals the earlier one. Ascending.
    """
    areas = np.diagonal(shared)
    union = areas[:, None] + areas[None, :] - shared
    overlap = shared / np.maximum(union, 1)
    alive = np.ones(len(layers), bool)
    kept = []
    for index in np.argsort(-layers.score, kind="stable"):
        if alive[index]:
            kept.append(int(index))
            alive &= overlap[index] <= iou
    return np.array(sorted(kept), np.intp)


def levels(shared: Counts, contained: float) -> NDArray[np.int32]:
    """How deep each mask lies in others [M]: 0 is in none, 1 in one of level 0, ...

    A mask is in the smallest larger one that holds at least that share of it; of two equal areas
    the earlier counts as the larger.
    """
    areas = np.diagonal(shared)
    order = np.argsort(-areas, kind="stable")
    found = np.zeros(len(areas), np.int32)
    for place, index in enumerate(order):
        larger = order[:place]
        holders = larger[shared[index, larger] >= contained * areas[index]]
        if holders.size:
            found[index] = found[holders[-1]] + 1
    return found


def flatten(
    layers: MaskLayers, params: MergeParams, numbers: NDArray[np.integer] | None = None
) -> NDArray[np.int32]:
    """One number for each pixel [H, W]: that of the smallest mask there, 0 where none is.

    numbers [M]: of the masks; None: their positions from 1. Masks below `finest_level` get none,
    nor do those of which smaller ones leave less than `min_visible`: what they would keep are
    slivers round their parts, which go to the next larger mask.
    """
    numbers = np.arange(1, len(layers) + 1) if numbers is None else numbers
    areas = layers.areas()
    label_map = np.zeros((layers.height, layers.width), np.int32)
    # Smaller masks are on top, so what is decided about them does not change any more.
    for index in np.argsort(areas, kind="stable"):
        if params.finest_level >= 0 and layers.level[index] > params.finest_level:
            continue
        visible = layers.mask(int(index)) & (label_map == 0)
        if areas[index] and np.count_nonzero(visible) >= params.min_visible * areas[index]:
            label_map[visible] = numbers[index]
    label_map[layers.ignored_mask()] = NO_TARGET
    return label_map
