# SPDX-License-Identifier: Apache-2.0
"""Objects at several levels: 0 the objects, 1, 2, .. their parts, -1, -2, .. groups of neighbours.

Every level is a partition of the splats, and each coarser one joins sets of the finer one. What a
level does not divide or join keeps its number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import Floats, Ids, at_level, average_linkage, lineage

PARTS_PER_LEVEL, PART_LEVELS = 4, 2  # an object has at most 4 parts, then 16
GROUPS_PER_LEVEL, GROUP_LEVELS = 3, 2  # a third as many groups as objects, then a ninth
NAMED_MEMBERS = 3  # a group of more is called after its largest member
LEAST_RELATION = 1e-4  # of the pixels of two objects: those that share less are no neighbours
NEAR = 2.0  # nodes are near within so many usual distances of both objects' nodes


@dataclass(frozen=True, eq=False)
class Granularity:
    """One tree over N splats."""

    labels: Mapping[int, Tensor]  # level -> [N] int64 numbers, 0 = no object; 0 is among the levels
    names: Mapping[int, str]  # of parts and groups
    parents: Mapping[int, int]  # a number -> the one of a coarser level that it is in

    def at(self, objects: LabelledSplats, level: int) -> LabelledSplats:
        """The objects that this was made for, at a level. ValueError where there is no such."""
        if level not in self.labels:
            known = ", ".join(str(k) for k in sorted(self.labels))
            raise ValueError(f"there is no level {level}; there are {known}")
        labels = self.labels[level]
        return dataclasses.replace(
            objects,
            labels=labels,
            names={**objects.names, **self.names},
            parents={**objects.parents, **self.parents},
            hidden=_hidden_at(objects, labels),
        )


def _hidden_at(objects: LabelledSplats, labels: Tensor) -> Tensor | None:
    """What hides the hidden splats [N] in other labels: of the hiding object the nearest splat."""
    if objects.hidden is None:
        return None
    hidden, means = objects.hidden.clone(), objects.splats.means.detach().cpu().numpy()
    for number in torch.unique(objects.hidden).tolist():
        mine = objects.labels == number
        if number and bool(mine.any()):
            inside = objects.hidden == number
            _, nearest = cKDTree(means[mine.numpy()]).query(means[inside.numpy()])
            hidden[inside] = labels[mine][torch.from_numpy(nearest)]
    return hidden


def undivided(objects: LabelledSplats) -> list[int]:
    """The objects of level 0 that nobody has divided by hand."""
    return [n for n in objects.numbers() if n not in objects.parents]


@dataclass(frozen=True, eq=False)
class Division:
    """What is known of the levels: parts of objects and groups of objects, by index."""

    parts: Mapping[int, Sequence[Ids]]  # object -> for level 1, 2, .. the part [n] of its splats
    groups: Sequence[Mapping[int, int]]  # for level -1, -2, ..: object -> index of its group


def granularity(objects: LabelledSplats, division: Division, taken: Sequence[int]) -> Granularity:
    """The tree. Parts that were made by hand are those of level 1 and more; `taken` are numbers
    that parts and groups must not have.
    """
    wholes = at_level(objects, 0)
    numbering = _Numbering(objects, taken)
    labels = {0: wholes.labels}
    for depth, joined in enumerate(division.groups, 1):
        finer = labels[1 - depth]
        labels[-depth] = numbering.grouped(wholes, finer, joined)
    by_hand = max((len(lineage(objects, n)) for n in objects.numbers()), default=1) - 1
    levels = max([by_hand, *(len(found) for found in division.parts.values())])
    rows = {n: (wholes.labels == n).nonzero()[:, 0] for n in division.parts}
    for level in range(1, levels + 1):
        finer = at_level(objects, level).labels.clone()
        for number, found in division.parts.items():
            mine = rows[number]
            before = labels[level - 1][mine]
            piece = found[level - 1] if level <= len(found) else np.zeros(len(mine), np.int64)
            finer[mine] = numbering.divided(before, piece)
        labels[level] = finer
    return Granularity(labels, numbering.names, numbering.parents)


class _Numbering:
    """Numbers, names and parents for what is new."""

    def __init__(self, objects: LabelledSplats, taken: Sequence[int]) -> None:
        self.known = objects.names
        hand = (*objects.parents, *objects.parents.values())
        self.next = 1 + max((0, *taken, *objects.numbers(), *objects.names, *hand))
        self.names: dict[int, str] = {}
        self.parents: dict[int, int] = {}

    def _new(self, name: str) -> int:
        number, self.next = self.next, self.next + 1
        self.names[number] = name
        return number

    def _name(self, number: int) -> str:
        return self.names.get(number) or self.known.get(number, f"object {number}")

    def divided(self, before: Tensor, piece: Ids) -> Tensor:
        """Numbers [n] after each of `before` [n] was divided into those `piece` [n] that it has."""
        after = before.clone()
        pieces = torch.from_numpy(piece)
        for whole in torch.unique(before).tolist():
            mine = before == whole
            inner = torch.unique(pieces[mine]).tolist()
            if len(inner) > 1:
                for place, part in enumerate(inner, 1):
                    number = self._new(f"{self._name(whole)} part {place}")
                    self.parents[number] = whole
                    after[mine & (pieces == part)] = number
        return after

    def grouped(self, wholes: LabelledSplats, finer: Tensor, joined: Mapping[int, int]) -> Tensor:
        """Numbers [N] after the groups of `finer` [N] that `joined` puts together were joined."""
        members: dict[int, list[int]] = {}
        for whole, group in joined.items():
            members.setdefault(group, []).append(whole)
        sizes = dict(zip(*_counts(wholes.labels), strict=True))
        host = dict(zip(wholes.labels.tolist(), finer.tolist(), strict=True))
        after = finer.clone()
        for inner in members.values():
            ordered = sorted(inner, key=lambda n: (-sizes[n], n))
            before = sorted({host[n] for n in ordered})
            if len(before) < 2:
                continue
            called = [self._name(n) for n in ordered]
            if len(called) > NAMED_MEMBERS:
                called = [called[0], f"{len(called) - 1} more"]
            number = self._new(" + ".join(called))
            self.parents.update(dict.fromkeys(before, number))
            after[torch.isin(finer, torch.tensor(before))] = number
        return after


def _counts(labels: Tensor) -> tuple[list[int], list[int]]:
    numbers, counts = torch.unique(labels, return_counts=True)
    return numbers.tolist(), counts.tolist()


def nested(coarse: Ids, fine: Ids) -> Ids:
    """`coarse` [n] with every set of `fine` [n] as a whole in the set that most of it lies in."""
    table = sparse.coo_matrix((np.ones(len(fine)), (fine, coarse))).tocsr()
    home = np.asarray(table.argmax(axis=1)).reshape(-1)
    found: Ids = home[fine]
    return found


@dataclass(frozen=True, eq=False)
class Nodes:
    """Sets of splats of one object that are looked at as one; m nodes over N splats."""

    of: Ids  # [N] the node of each splat, -1 = none
    owner: Ids  # [m] the object of each
    center: Floats  # [m, 3]

    def spans(self) -> Iterator[tuple[int, slice]]:
        """Each object with its nodes, which stand together."""
        numbers, first, count = np.unique(self.owner, return_index=True, return_counts=True)
        for number, a, n in zip(numbers.tolist(), first.tolist(), count.tolist(), strict=True):
            yield number, slice(a, a + n)


def neighbor_relation(nodes: Nodes, shared: sparse.csr_matrix) -> tuple[Ids, Floats]:
    """Objects [k], and how much each two of them [k, k] share pixels where they are near.

    `shared` [m, m] is the sum of W^T W over the nodes. A pair of nodes at distance d counts
    exp(-(d / r)^2), r twice the usual distances of nodes of both objects: what merely occludes
    something far behind it is no neighbour. 1 on the diagonal.
    """
    usual = np.zeros(len(nodes.owner))
    for _, span in nodes.spans():
        centers = nodes.center[span]
        k = min(5, len(centers))
        usual[span] = np.median(
            cKDTree(centers).query(centers, k)[0].reshape(len(centers), -1)[:, -1]
        )
    pairs = shared.tocoo()
    i, j = pairs.row, pairs.col
    apart = np.linalg.norm(nodes.center[i] - nodes.center[j], axis=1)
    reach = np.maximum(NEAR * (usual[i] + usual[j]), np.finfo(np.float64).tiny)
    numbers, owner = np.unique(nodes.owner, return_inverse=True)
    weight = pairs.data * np.exp(-np.square(apart / reach))
    between = sparse.coo_matrix((weight, (owner[i], owner[j])), (len(numbers),) * 2).toarray()
    scale = np.sqrt(np.maximum(between.diagonal(), np.finfo(np.float64).tiny))
    relation: Floats = between / np.outer(scale, scale)
    relation[relation < LEAST_RELATION] = 0
    return numbers, relation


def neighbor_groups(numbers: Ids, relation: Floats) -> list[dict[int, int]]:
    """For level -1, -2, .. the group of each object: by average linkage, a third as many a level.

    Fewer levels where nothing is left to join; objects without any neighbour stay alone.
    """
    n = len(numbers)
    i, j = np.triu_indices(n, 1)
    merges = average_linkage(n, i, j, relation[i, j])
    found: list[dict[int, int]] = []
    for level in range(1, GROUP_LEVELS + 1):
        wanted = -(-n // GROUPS_PER_LEVEL**level)
        group = {k: [k] for k in range(n)}
        for step, (a, b) in enumerate(merges.tolist()[: max(n - wanted, 0)]):
            group[n + step] = group.pop(a) + group.pop(b)
        index = {int(numbers[k]): g for g, inner in enumerate(group.values()) for k in inner}
        if len(group) == (len(set(found[-1].values())) if found else n):
            break
        found.append(index)
    return found
