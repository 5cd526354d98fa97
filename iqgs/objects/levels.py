# SPDX-License-Identifier: Apache-2.0
"""Parts of objects: one tree of groups from what splats contribute to the same pixels.

Notation: W_v [P, N] are the blending weights of view v. Two splats are related by
r_ij = (sum over v of W_v^T W_v)_ij, divided by sqrt(r_ii r_jj): how much they share pixels (PairGS
groups splats by such relations), here weighed down where colours or normals differ. Groups with
the largest mean relation are joined first (average linkage), which gives a tree; cutting it gives
parts. No training, and no masks.
"""

from __future__ import annotations

import dataclasses
import heapq
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from iqgs.objects.labelled import LabelledSplats
from scene.gaussian_model import GaussianModel
from utils.spherical_harmonics import sh_dc_to_rgb

MOST_NODES = 3000  # of a tree: more splats start in groups of those that lie in one cell
COLOR_STEP = 0.15  # difference of RGB at which a relation counts 1/e
NORMAL_STEP = 0.5  # the same of 1 - |cosine| of normals
LEAST_PART = 0.01  # share of the splats: smaller groups are dust and go to the nearest part

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PartTree:
    """n splats in m nodes, and which groups were joined, in order."""

    node: Ids  # [n] the first group of each splat
    merges: Ids  # [k, 2]: the i-th joins two groups into group m + i

    def pieces(self, means: Floats, count: int) -> Ids:
        """The part [n] of each splat at `means` [n, 3]: `count` parts, or as many as there are of
        1 % of the splats; 0 is the largest.
        """
        size = self._sizes()
        first, least = len(size) - len(self.merges), LEAST_PART * len(self.node)
        parent = np.arange(len(size))
        for k, pair in enumerate(self.merges):
            parent[pair] = first + k
        groups = set(np.flatnonzero(parent == np.arange(len(size))).tolist())
        for k in self._undone(size, groups, least, count):
            groups = groups - {first + k} | set(self.merges[k].tolist())
        chosen = sorted((g for g in groups if size[g] >= least), key=lambda g: (-size[g], g))
        rank = np.full(len(size), -1)
        rank[chosen[:count]] = np.arange(len(chosen[:count]))
        for k in range(len(size) - 1, -1, -1):  # parents have larger numbers
            if k not in groups and parent[k] != k:
                rank[k] = rank[parent[k]]
        piece: Ids = rank[self.node]
        dust = piece < 0
        if dust.any():
            _, nearest = cKDTree(means[~dust]).query(means[dust])
            piece[dust] = piece[~dust][nearest]
        return piece

    def _undone(self, size: Ids, roots: set[int], least: float, count: int) -> range:
        """The joins to undo, each after those above it: until there are `count` groups of `least`
        splats; where that never happens, as long as there are as many as there can be.
        """
        first, last = len(size) - len(self.merges), len(self.merges) - 1
        large = most = sum(size[root] >= least for root in roots)
        stop = last
        for k in range(last, -1, -1):
            if most >= count:
                break
            large += sum(size[child] >= least for child in self.merges[k].tolist())
            large -= size[first + k] >= least
            if large >= most:
                most, stop = large, k - 1
        return range(last, stop, -1)

    def _sizes(self) -> Ids:
        """Splats [m + k] of every group."""
        size = np.bincount(self.node).tolist()
        for i, j in self.merges.tolist():
            size.append(size[i] + size[j])
        return np.array(size, np.int64)


def first_nodes(means: Floats, most: int = MOST_NODES) -> Ids:
    """A node [n] for each splat: its own, or that of a cell of space where they are over `most`."""
    n = len(means)
    if n <= most:
        return np.arange(n)
    low, extent = means.min(axis=0), float(np.ptp(means, axis=0).max())
    cells = 2
    node = np.zeros(n, np.int64)
    while True:  # as fine as the number allows
        at = np.minimum(((means - low) / extent * cells).astype(np.int64), cells - 1)
        finer = np.unique(at @ [1, cells, cells * cells], return_inverse=True)[1]
        if finer.max() >= most or cells > n:
            return node
        node, cells = finer, cells + max(1, cells // 8)


def part_tree(splats: GaussianModel, node: Ids, shared: sparse.csr_matrix) -> PartTree:
    """The tree of n splats over their nodes; `shared` [m, m] is the sum of W^T W over the nodes."""
    scale = np.sqrt(np.maximum(shared.diagonal(), np.finfo(np.float64).tiny))
    pairs = sparse.triu(shared, k=1).tocoo()
    color = _node_means(sh_dc_to_rgb(splats.params["sh_dc"].detach()[:, 0]), node)
    normal = _node_directions(splats.normals().detach(), node)
    i, j = pairs.row, pairs.col
    apart = np.square(color[i] - color[j]).sum(axis=1) / COLOR_STEP**2
    apart += (1 - np.abs((normal[i] * normal[j]).sum(axis=1))) / NORMAL_STEP
    relation = pairs.data / (scale[i] * scale[j]) * np.exp(-apart)
    return PartTree(node, average_linkage(len(scale), i, j, relation))


def average_linkage(count: int, rows: Ids, columns: Ids, relation: Floats) -> Ids:
    """Merges [k, 2] of `count` nodes: the pair of groups with the largest mean relation over all
    pairs of their nodes first; pairs that are not listed have none, and groups without any relation
    stay apart. Ties go to the smaller numbers.
    """
    beside: list[dict[int, float]] = [{} for _ in range(count)]
    for i, j, value in zip(rows.tolist(), columns.tolist(), relation.tolist(), strict=True):
        if value > 0:
            beside[i][j] = beside[j][i] = value
    size, alive = [1] * count, [True] * count
    heap = [(-value, i, j) for i in range(count) for j, value in beside[i].items() if i < j]
    heapq.heapify(heap)
    merges = []
    while heap:
        _, i, j = heapq.heappop(heap)
        if not (alive[i] and alive[j]):
            continue
        new = len(size)
        alive[i] = alive[j] = False
        total = dict(beside[i])
        for other, value in beside[j].items():
            total[other] = total.get(other, 0.0) + value
        del total[i], total[j]
        beside.append(total)
        size.append(size[i] + size[j])
        alive.append(True)
        for other, value in total.items():
            beside[other].pop(i, None)
            beside[other].pop(j, None)
            beside[other][new] = value
            heapq.heappush(heap, (-value / (size[new] * size[other]), other, new))
        merges.append((i, j))
    return np.array(merges, np.int64).reshape(-1, 2)


def at_level(objects: LabelledSplats, level: int) -> LabelledSplats:
    """The same splats by what edits made of them: 0 whole objects, 1 their parts, 2 parts of these,
    and so on; what is not divided so far stays whole.
    """
    if not objects.parents:
        return objects
    labels = objects.labels.clone()
    hidden = None if objects.hidden is None else objects.hidden.clone()
    for number in objects.numbers():
        line = lineage(objects, number)
        if len(line) > level + 1:
            labels[objects.labels == number] = line[level]
            if hidden is not None and objects.hidden is not None:
                hidden[objects.hidden == number] = line[level]
    present = set(labels.tolist())
    parents = {part: whole for part, whole in objects.parents.items() if part in present}
    return dataclasses.replace(objects, labels=labels, hidden=hidden, parents=parents)


def lineage(objects: LabelledSplats, number: int) -> list[int]:
    """An object after all that it is a part of, the whole first."""
    line = [number]
    while line[0] in objects.parents and objects.parents[line[0]] not in line:
        line.insert(0, objects.parents[line[0]])
    return line


def parts_of(objects: LabelledSplats, number: int) -> list[int]:
    """The numbers with splats that an object consists of: itself, or its parts, to any depth."""
    return [other for other in objects.numbers() if number in lineage(objects, other)]


def _node_means(values: torch.Tensor, node: Ids) -> Floats:
    """Mean of values [n, C] over the splats of each node [m, C]."""
    rows = values.cpu().numpy().astype(np.float64)
    count = np.bincount(node)
    sums = np.stack([np.bincount(node, column) for column in rows.T], axis=1)
    means: Floats = sums / count[:, None]
    return means


def _node_directions(normals: torch.Tensor, node: Ids) -> Floats:
    """Unit direction [m, 3] of normals [n, 3] without a sign: that of the node's first splat."""
    _, first = np.unique(node, return_index=True)
    chosen: Floats = normals.cpu().numpy().astype(np.float64)[first]
    return chosen
