# SPDX-License-Identifier: Apache-2.0
"""A memory bank of splats: masks of views, one after the other, become groups of one scene.

A mask is the splats that are seen within its outline. It belongs to the group that holds most of
them already, and if none holds enough it begins a new one (Gaga, Lyu et al.).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights
from scene.cameras import Camera

MEMBER_WEIGHT = 1.0  # pixels: blending weight that a splat must have in a view to be seen there
MEMBER_SHARE = 0.8  # of this weight, which must lie within one mask


def splats_seen(weights: BlendWeights, label_map: Tensor) -> dict[int, Tensor]:
    """The splats that speak for each id > 0 of a view: those that are seen there, almost all of
    them within the mask.

    Args:
        weights: Of the view; N splats.
        label_map: [H, W] ids, 0: no mask, which splats may belong to as well; -1: says nothing.

    Returns:
        id -> [n] int64 numbers of splats, ascending; ids without splats are left out.
    """
    labels = label_map.reshape(-1).long()
    label = torch.repeat_interleave(labels, weights.row_start.diff())
    splat = weights.splat.long()
    total = torch.zeros(weights.n_splats, device=splat.device)
    total.index_add_(0, splat, weights.weight * (label >= 0))
    classes = int(labels.max()) + 1
    masked = label > 0
    key, where = torch.unique(splat[masked] * classes + label[masked], return_inverse=True)
    own = torch.zeros(len(key), device=splat.device).index_add_(0, where, weights.weight[masked])
    splat, label = key // classes, key % classes
    chosen = (total[splat] >= MEMBER_WEIGHT) & (own >= MEMBER_SHARE * total[splat])
    return _by_label(splat[chosen], label[chosen])


@dataclass(frozen=True)
class FrontRules:
    """Which splats are in front."""

    share: float  # of the splats of a cell
    cells: int  # of the grid over a view, along each side


def splats_in_front(
    camera: Camera, means: Tensor, label_map: Tensor, rules: FrontRules
) -> dict[int, Tensor]:
    """The same as Gaga finds them, without blending weights.

    Where a mask and a cell of the grid meet, these are the nearest ones among the splats whose
    centres [N, 3] are seen there: a share of them, one at least.
    """
    pixels, depth = camera.project(means)
    column, row = pixels.floor().long().unbind(1)
    inside = (depth > camera.near) & (column >= 0) & (row >= 0)
    inside &= (column < camera.width) & (row < camera.height)
    splat = inside.nonzero().flatten()
    column, row = column[splat], row[splat]
    label = label_map[row, column].long()
    cell = row * rules.cells // camera.height * rules.cells + column * rules.cells // camera.width
    masked = label > 0
    splat, label = splat[masked], label[masked]
    place = label * rules.cells**2 + cell[masked]  # a mask within a cell
    order = torch.argsort(depth[splat], stable=True)
    order = order[torch.argsort(place[order], stable=True)]
    splat, label, place = splat[order], label[order], place[order]
    _, where, count = torch.unique_consecutive(place, return_inverse=True, return_counts=True)
    rank = torch.arange(len(splat), device=splat.device) - (count.cumsum(0) - count)[where]
    chosen = rank < (count * rules.share).ceil()[where]
    return _by_label(splat[chosen], label[chosen])


def _by_label(splat: Tensor, label: Tensor) -> dict[int, Tensor]:
    return {int(i): splat[label == i].sort().values for i in torch.unique(label)}


class MemoryBank:
    """Groups of splats that grow with every mask; groups may share splats. They count from 1."""

    def __init__(self, n_splats: int, overlap: float, device: torch.device) -> None:
        """`overlap`: share of a mask's splats beyond which a group that holds them gets it."""
        self.overlap = overlap
        self.count = 0
        self._held = torch.zeros(0, dtype=torch.int64, device=device)  # splats of all groups
        self._group = torch.zeros(0, dtype=torch.int64, device=device)  # whose they are
        self._in_mask = torch.zeros(n_splats, dtype=torch.bool, device=device)

    def take(self, splats: Tensor) -> int:
        """The group of a mask with these splats [n], which are remembered; ValueError for none."""
        if len(splats) == 0:
            raise ValueError("expected a mask with at least one splat")
        self._in_mask[splats] = True
        shared = self._in_mask[self._held]
        held = torch.bincount(self._group[shared], minlength=self.count + 1)
        self._in_mask[splats] = False
        group = int(held.argmax())
        if int(held[group]) <= self.overlap * len(splats):
            self.count += 1
            group = self.count
        known = self._held[self._group == group]
        fresh = splats[~torch.isin(splats, known)]
        self._held = torch.cat([self._held, fresh])
        self._group = torch.cat([self._group, torch.full_like(fresh, group)])
        return group
