# SPDX-License-Identifier: Apache-2.0
"""Parts and groups of objects from masks of several levels, as segmenters give wholes and parts.

At level l of the masks a pixel is in the smallest of its masks whose level is at most l. In every
view each node (some splats of an object) is in the mask that most of its blending weight lies in.
Two nodes belong together at a level if they are in one mask in more than half of the views that
show both in masks, a view counting by the geometric mean of what it shows of the two: a gleam
through what stands before an object says little of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial import cKDTree
from scipy.spatial.distance import squareform

from iqgs.objects.granularity import Division, Nodes, nested
from iqgs.objects.levels import LEAST_PART, Floats, Ids
from scene.masks import MaskPatches

LEVELS = 3  # of masks: whole, part, subpart
TOGETHER = 0.5  # share of the views


def masks_at_levels(masks: MaskPatches) -> list[Ids]:
    """For each level the mask [P] of each pixel of a view, -1 where there is none."""
    members, size = masks.members.cpu().numpy(), masks.areas.cpu().numpy()
    level, patch = masks.level.cpu().numpy(), masks.patch.reshape(-1).cpu().numpy()
    found = []
    for depth in range(LEVELS):
        allowed = members & (level <= depth)
        area = np.where(allowed, size, np.iinfo(np.int64).max)
        smallest = area.argmin(axis=1) if members.shape[1] else np.zeros(len(members), np.int64)
        chosen = np.append(np.where(allowed.any(axis=1), smallest, -1), -1)  # -1: no target
        found.append(chosen[patch].astype(np.int64))
    return found


class MaskVotes:
    """Counts in how many views nodes are in one mask, at each level."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.numbers, self.index = np.unique(nodes.owner, return_inverse=True)
        self.sizes = [span.stop - span.start for _, span in nodes.spans()]
        self.inner = [[_Pairs(n) for n in self.sizes] for _ in range(LEVELS)]
        self.between = [_Pairs(len(self.numbers)) for _ in range(LEVELS)]

    def add(self, seen: sparse.csr_matrix, masks: MaskPatches) -> None:
        """One view: blending weights [P, m] of the nodes, and its masks."""
        owners = sparse.csr_matrix(
            (np.ones(len(self.index)), (np.arange(len(self.index)), self.index))
        )
        for level, mask in enumerate(masks_at_levels(masks)):
            inside = np.flatnonzero(mask >= 0)
            shape = (int(mask.max(initial=-1)) + 1, len(mask))
            rows = sparse.csr_matrix((np.ones(len(inside)), (mask[inside], inside)), shape)
            weight = (rows @ seen).tocsc()  # [masks, m]
            home, amount = _homes(weight)
            for pairs, (_, span) in zip(self.inner[level], self.nodes.spans(), strict=True):
                pairs.add(home[span], amount[span])
            self.between[level].add(*_homes((weight @ owners).tocsc()))

    def division(self) -> Division:
        """What the levels divide and join."""
        return Division(self._parts(), self._groups())

    def _parts(self) -> Mapping[int, Sequence[Ids]]:
        """The first level that divides an object is its level 1: not all lie equally deep."""
        found: dict[int, list[Ids]] = {}
        for place, (number, span) in enumerate(self.nodes.spans()):
            node = self.nodes.of
            mine = node[(node >= span.start) & (node < span.stop)] - span.start
            levels = [self._pieces(level, place, span) for level in range(LEVELS)]
            pieces = [_large(piece[mine], self.nodes.center[span][mine]) for piece in levels]
            for level in range(LEVELS - 1, 0, -1):
                pieces[level - 1] = nested(pieces[level - 1], pieces[level])
            found[number] = _different(pieces)
        most = max((len(pieces) for pieces in found.values()), default=0)
        return {
            number: [*pieces, *pieces[-1:] * (most - len(pieces))]
            for number, pieces in found.items()
            if pieces
        }

    def _pieces(self, level: int, place: int, span: slice) -> Ids:
        """The piece of each node [n] of an object; one that no mask shows is with the nearest."""
        pairs, centers = self.inner[level][place], self.nodes.center[span]
        piece, seen = pairs.clusters(), pairs.both.diagonal() > 0
        if not seen.any():
            return np.zeros(len(piece), np.int64)
        _, nearest = cKDTree(centers[seen]).query(centers[~seen])
        piece[~seen] = piece[seen][nearest]
        return piece

    def _groups(self) -> list[dict[int, int]]:
        """Coarser and coarser."""
        found: list[dict[int, int]] = []
        finer = np.arange(len(self.numbers))
        for level in range(LEVELS - 1, -1, -1):
            group = nested(self.between[level].clusters(), finer)
            if len(np.unique(group)) < len(np.unique(finer)):
                finer = group
                found.append(dict(zip(self.numbers.tolist(), group.tolist(), strict=True)))
        return found


def _different(pieces: Sequence[Ids]) -> list[Ids]:
    """Of divisions that become finer those that divide something that was whole before."""
    found, count = [], 1
    for piece in pieces:
        amount = len(np.unique(piece))
        if amount > count:
            found.append(piece)
            count = amount
    return found


class _Pairs:
    """For pairs of n things: how much of both is in masks, and in one mask, over the views."""

    def __init__(self, n: int) -> None:
        self.both, self.same = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)

    def add(self, home: Ids, amount: Floats) -> None:
        """The mask [n] that each is in in a view, and how many pixels of it [n]; 0: unseen."""
        weight = np.outer(np.sqrt(amount), np.sqrt(amount)).astype(np.float32)
        self.both += weight
        self.same += np.where(home[:, None] == home[None], weight, 0)

    def clusters(self) -> Ids:
        """Which belong together [n]: average linkage over the share of the views. Pairs that no
        view shows say neither yes nor no; things that are in no mask stay alone.
        """
        n = len(self.both)
        if n < 2:
            return np.zeros(n, np.int64)
        known = np.where(self.both > 0, self.both, 1)
        share = np.where(self.both > 0, self.same / known, TOGETHER)
        apart: Floats = 1 - share.astype(np.float64)
        np.fill_diagonal(apart, 0)
        tree = linkage(squareform(apart, checks=False), "average")
        found: Ids = fcluster(tree, (1 - TOGETHER) * (1 - 1e-9), "distance").astype(np.int64)
        return found


def _homes(weight: sparse.csc_matrix) -> tuple[Ids, Floats]:
    """The mask [n] with the most weight in each column, and that weight [n]; 0: in none."""
    if not weight.shape[0]:
        return np.zeros(weight.shape[1], np.int64), np.zeros(weight.shape[1])
    best = np.asarray(weight.argmax(axis=0)).reshape(-1).astype(np.int64)
    return best, np.asarray(weight.max(axis=0).todense()).reshape(-1)


def _large(piece: Ids, centers: Floats) -> Ids:
    """Pieces [n] without those of less than 1 % of the splats, which go to the nearest other."""
    numbers, index, count = np.unique(piece, return_inverse=True, return_counts=True)
    large = (count >= max(LEAST_PART * len(piece), 1))[index]
    if large.all() or not large.any():
        return piece if large.all() else np.zeros_like(piece)
    _, nearest = cKDTree(centers[large]).query(centers[~large])
    after = numbers[index].copy()
    after[~large] = after[large][nearest]
    return after
