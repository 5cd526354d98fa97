# SPDX-License-Identifier: Apache-2.0
"""Gaga (Lyu et al., 2024): masks of views are associated by a memory bank of splats, then learned.

Equal ids of two views mean nothing here. Before the first step every view's masks are put into
groups of the scene, in the order of the views; the groups are then the classes of Gaussian
Grouping. Written from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from arguments import option, require
from gaussian_renderer import MIN_WEIGHT
from iqgs.methods.classes import NO_CLASS, LinearClassifier
from iqgs.methods.gaussian_grouping import GaussianGrouping, GroupingParams
from iqgs.methods.memory_bank import FrontRules, MemoryBank, splats_in_front, splats_seen
from iqgs.methods.protocol import Batch, FitView, SceneFacts, StepTerms


@dataclass(frozen=True)
class GagaParams(GroupingParams):
    """Gaga: a memory bank gives the classes of a linear classifier."""

    bank_overlap: float = option(0.1, "share of a mask's splats that its group must hold")
    bank_members: str = option(
        "seen",
        "splats of a mask: those that blend into it, or the nearest centres (as published)",
        choices=("seen", "front"),
    )
    bank_front: float = option(0.2, "front: share of the splats of a cell")
    bank_cells: int = option(32, "front: cells of a view along each side")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.classes == 0, "classes", self.classes, "0: the memory bank counts them")
        require(0 <= self.bank_overlap < 1, "bank_overlap", self.bank_overlap, "in [0, 1)")
        require(0 < self.bank_front <= 1, "bank_front", self.bank_front, "in (0, 1]")
        require(self.bank_cells >= 1, "bank_cells", self.bank_cells, "at least 1")


def build(params: GagaParams, facts: SceneFacts, generator: torch.Generator) -> Gaga:
    """A method that has not seen a mask yet."""
    return Gaga(params, facts, generator)


class Gaga(GaussianGrouping):
    """Gaussian Grouping on groups of a memory bank.

    The classifier gets its size when the groups are known. The state holds what the masks became:
    `keys` [n] are view * (K + 1) + id, ascending, and `groups` [n] their groups.
    """

    keys: Tensor
    groups: Tensor

    def __init__(self, params: GagaParams, facts: SceneFacts, generator: torch.Generator) -> None:
        super().__init__(params, 2, facts, generator)
        self.ids = "clusters"
        self.facts = facts
        self.settings = params
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("groups", torch.zeros(0, dtype=torch.int64))

    @torch.no_grad()
    def fit(self, views: Iterable[FitView]) -> None:
        """Put the masks of all views into groups, and make room for these in the classifier."""
        bank, keys, groups = None, [], []
        for view in views:
            gaussians, overlap = view.lens.gaussians, self.settings.bank_overlap
            if bank is None:
                bank = MemoryBank(len(gaussians), overlap, gaussians.device)
            for label, splats in self._members(view).items():
                keys.append(self._key(view.number, label))
                groups.append(bank.take(splats))
        device = self.keys.device
        order = torch.argsort(torch.tensor(keys, dtype=torch.int64))
        self.keys = torch.tensor(keys, dtype=torch.int64)[order].to(device)
        self.groups = torch.tensor(groups, dtype=torch.int64)[order].to(device)
        self._make_room(1 + (0 if bank is None else bank.count))

    def _members(self, view: FitView) -> dict[int, Tensor]:
        """The splats of each mask of a view."""
        if self.settings.bank_members == "seen":
            return splats_seen(view.lens.weights(MIN_WEIGHT), view.labels)
        rules = FrontRules(self.settings.bank_front, self.settings.bank_cells)
        means = view.lens.gaussians.means.detach()
        return splats_in_front(view.lens.camera, means, view.labels, rules)

    def _key(self, view: int, label: Any) -> Any:
        return view * (self.facts.num_ids + 1) + label

    def _make_room(self, classes: int) -> None:
        """A fresh classifier of so many classes, in the parameters that there are."""
        generator = torch.Generator().manual_seed(self.facts.seed)
        fresh = LinearClassifier(self.facts.instance_dim, max(classes, 2), generator)
        device = self.seen.device
        self.classifier.weight.data = fresh.weight.data.to(device)
        self.classifier.bias.data = fresh.bias.data.to(device)
        self.seen = torch.zeros(len(fresh.bias), dtype=torch.bool, device=device)

    def terms(self, batch: Batch) -> StepTerms:
        """The terms of Gaussian Grouping, on groups."""
        return super().terms(replace(batch, labels=self.grouped(batch.labels, batch.view)))

    def grouped(self, labels: Tensor, view: int) -> Tensor:
        """Groups of ids [P] of a training view; -1 for masks that no splat spoke for."""
        if len(self.keys) == 0:
            return torch.where(labels > 0, NO_CLASS, labels)
        key = self._key(view, labels)
        at = torch.searchsorted(self.keys, key).clamp_max(len(self.keys) - 1)
        group = torch.where(self.keys[at] == key, self.groups[at], NO_CLASS)
        return torch.where(labels > 0, group, labels)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Put back what `state_dict` gave, of whatever size."""
        self._make_room(len(state_dict["seen"]))
        self.keys = torch.zeros_like(state_dict["keys"], device=self.seen.device)
        self.groups = torch.zeros_like(state_dict["groups"], device=self.seen.device)
        return super().load_state_dict(state_dict, strict, assign)
