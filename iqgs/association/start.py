# SPDX-License-Identifier: Apache-2.0
"""A first guess of the tracks: by the ids of a tracker, or from nothing but overlaps in 3D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from iqgs.association.lift import Ids, LiftedMasks

MAJORITY = 0.5  # a splat belongs to a mask that holds more than this share of it in the view
SEEN_FLOOR = 0.05  # pixels: with less a view hardly shows a splat
FEWEST_SHARED = 0.2  # of the smaller mask: with less in common sight a pair of masks has no say
LEAST_IOU = 0.1  # mean overlap of two clusters of fresh masks that are one object
SAME_OBJECT = 0.5  # of two tracks that somebody else has made already
SIDE_BY_SIDE = 0.6  # two clusters that share more of their views than this are two objects
FEW_VIEWS = 8  # clusters of fewer may be pieces of one
PAIRS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Overlaps:
    """What pairs of masks have in common, over the splats that both views see."""

    iou: sparse.csr_matrix  # [M, M] weighted: link weight times IoU, symmetric, no diagonal
    mass: NDArray[np.float32]  # [M, V] splats of a mask that a view sees
    size: NDArray[np.float32]  # [M] splats of a mask
    view: Ids  # [M]

    def link_weight(self, first: Ids, second: Ids) -> NDArray[np.float32]:
        """How much pairs [P] of masks have to say: the square root of what both views see of the
        smaller share; 0 where that is hardly anything, and within one view.
        """
        one, two = self.mass[first, self.view[second]], self.mass[second, self.view[first]]
        shared = np.minimum(one, two)
        enough = shared > FEWEST_SHARED * np.minimum(self.size[first], self.size[second])
        return np.where(enough & (first != second), np.sqrt(shared), 0).astype(np.float32)


def overlaps(masks: LiftedMasks) -> Overlaps:
    """Overlap of all pairs of masks that share a splat.

    IoU of masks a, b over splats in common sight: I / (A + B - I), where A counts the splats of a
    that the view of b sees. Splats count by the square root of their mean visible weight.
    """
    inside = masks.inside.tocoo()
    seen = masks.visible.tocsr()
    total = np.asarray(seen[inside.row, masks.view[inside.col]]).ravel()
    own = (inside.data > MAJORITY * total) & (total > SEEN_FLOOR)
    shape = (masks.n_splats, len(masks))
    member = sparse.csc_matrix(
        (np.ones(int(own.sum()), np.float32), (inside.row[own], inside.col[own])), shape=shape
    )
    sight = seen.copy()
    sight.data = (sight.data > SEEN_FLOOR).astype(np.float32)
    sight.eliminate_zeros()
    views = np.maximum(np.asarray(sight.sum(axis=1)).ravel(), 1)
    count = np.sqrt(np.asarray(seen.sum(axis=1)).ravel() / views).astype(np.float32)
    weighted = sparse.diags(count) @ member
    mass = np.asarray((weighted.T @ sight).todense(), np.float32)
    size = np.asarray(weighted.sum(axis=0), np.float32).ravel()
    common = sparse.triu(member.T @ weighted, 1).tocoo()
    unlinked = Overlaps(sparse.csr_matrix((0, 0)), mass, size, masks.view)
    link = unlinked.link_weight(common.row, common.col)
    union = mass[common.row, masks.view[common.col]] + mass[common.col, masks.view[common.row]]
    union -= common.data
    value = link * common.data / np.maximum(union, 1e-9)
    kept = value > 0
    upper = sparse.csr_matrix(
        (value[kept], (common.row[kept], common.col[kept])), shape=(len(masks), len(masks))
    )
    return Overlaps((upper + upper.T).tocsr(), mass, size, masks.view)


def given_start(masks: LiftedMasks) -> Ids:
    """Tracks [M] 0..K-1 by the ids of a tracker; ids that took turns at one object are joined."""
    by_id = np.unique(masks.ids, return_inverse=True)[1].astype(np.int64)
    return _clustered(overlaps(masks), by_id, SAME_OBJECT)


def graph_starts(masks: LiftedMasks) -> list[Ids]:
    """Average-linkage clusters of masks: [M] track numbers 0..K-1, for ids that say nothing.

    Two guesses. The second keeps clusters apart that stand beside each other in many views: it
    finds thin objects that lie on others, and breaks objects that are often drawn in two pieces.
    """
    found, alone = overlaps(masks), np.arange(len(masks))
    return [_clustered(found, alone, LEAST_IOU, apart) for apart in (False, True)]


def _clustered(found: Overlaps, label: Ids, least_iou: float, apart: bool = False) -> Ids:
    """Merge clusters `label` [M] of masks by average linkage.

    Two clusters are merged while the mean IoU of their linked pairs, weighted by how much each pair
    has in common sight, is at least `least_iou`. Masks of one view have no splat in common, so they
    keep their clusters apart; `apart` also keeps clusters that have many views in common. All pairs
    of clusters that are each other's nearest are merged at once: for average linkage that gives the
    same tree as one merge after the other (but where `apart` forbids some).
    """
    while True:
        clusters = int(label.max()) + 1 if len(label) else 0
        joined = sparse.csr_matrix(
            (np.ones(len(label), np.float32), (label, np.arange(len(label)))),
            shape=(clusters, len(label)),
        )
        summed = (joined @ found.iou @ joined.T).tocoo()
        pairs = summed.row < summed.col
        first, second = summed.row[pairs].astype(np.int64), summed.col[pairs].astype(np.int64)
        mean = summed.data[pairs] / np.maximum(
            _summed_links(found, label, first, second), np.finfo(np.float32).tiny
        )
        near = mean >= least_iou
        if apart:
            near[near] = ~_side_by_side(found.view, label, first[near], second[near])
        merges = _mutual_best(first[near], second[near], mean[near], clusters)
        if not len(merges):
            return label
        target = np.arange(clusters)
        target[merges[:, 1]] = merges[:, 0]
        label = np.unique(target[label], return_inverse=True)[1]


def _side_by_side(view: Ids, label: Ids, first: Ids, second: Ids) -> NDArray[np.bool_]:
    """Pairs [P] of clusters that have masks in the same views, for the most part of the smaller."""
    shown = np.zeros((int(label.max()) + 1, int(view.max()) + 1), bool)
    shown[label, view] = True
    views = shown.sum(axis=1)
    result = np.zeros(len(first), bool)
    step = max(1, PAIRS_AT_ONCE // shown.shape[1])
    for begin in range(0, len(first), step):
        one, two = first[begin : begin + step], second[begin : begin + step]
        together = (shown[one] & shown[two]).sum(axis=1)
        fewer = np.minimum(views[one], views[two])
        result[begin : begin + step] = (together > SIDE_BY_SIDE * fewer) & (fewer >= FEW_VIEWS)
    return result


def _summed_links(found: Overlaps, label: Ids, first: Ids, second: Ids) -> NDArray[np.float64]:
    """Sum of link weights over all pairs of masks of each pair [P] of clusters."""
    order = np.argsort(label, kind="stable")
    start = np.searchsorted(label[order], np.arange(int(label.max()) + 2))
    sizes = start[1:] - start[:-1]
    count = sizes[first] * sizes[second]
    sums = np.zeros(len(first))
    ends = count.cumsum()
    begin = 0
    while begin < len(first):
        base = ends[begin] - count[begin]
        stop = max(begin + 1, int(np.searchsorted(ends, base + PAIRS_AT_ONCE, side="right")))
        part = slice(begin, stop)
        pair = np.repeat(np.arange(begin, stop), count[part])
        within = np.arange(len(pair)) - np.repeat(ends[part] - count[part] - base, count[part])
        wide = sizes[second][pair]
        one = order[start[first][pair] + within // wide]
        two = order[start[second][pair] + within % wide]
        link = found.link_weight(one, two)
        sums[part] = np.bincount(pair - begin, weights=link, minlength=stop - begin)
        begin = stop
    return sums


def _mutual_best(first: Ids, second: Ids, mean: NDArray[np.floating], count: int) -> Ids:
    """Pairs [R, 2] that are each other's nearest; ties go to the lower numbers."""
    one, two = np.concatenate([first, second]), np.concatenate([second, first])
    value = np.concatenate([mean, mean])
    order = np.lexsort((two, -value, one))
    one, two = one[order], two[order]
    is_best = np.ones(len(one), bool)
    is_best[1:] = one[1:] != one[:-1]
    nearest = np.full(count, -1, np.int64)
    nearest[one[is_best]] = two[is_best]
    low = np.flatnonzero((nearest >= 0) & (nearest > np.arange(count)))
    mutual = low[nearest[nearest[low]] == low]
    return np.stack([mutual, nearest[mutual]], axis=1)
