# SPDX-License-Identifier: Apache-2.0
"""The vote: every splat takes the id with most blending weight in the training masks. No training.

It is the honest floor under every learned method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights
from gaussian_renderer import MIN_WEIGHT, Lens
from iqgs.methods.hard_labels import ClosedForm
from iqgs.methods.protocol import (
    FitView,
    IdKind,
    SceneFacts,
)


@dataclass(frozen=True)
class VoteParams:
    """The vote has no settings."""


def build(params: VoteParams, facts: SceneFacts, generator: torch.Generator) -> VoteMethod:
    """A vote that nobody has cast yet."""
    method = VoteMethod(facts.num_ids, facts.zero_is_background)
    method.ids = "clusters" if facts.tracks else "global"
    return method


class VoteAccumulator:
    """Sums of blending weight per splat and id; float32 [N, K + 1] on the CPU, in fixed order."""

    def __init__(self, n_splats: int, n_ids: int, background: bool = True) -> None:
        """With `background`, id 0 is a class of its own; otherwise its pixels are left out."""
        self.n_ids = n_ids
        self.background = background
        self.votes = torch.zeros(n_splats, n_ids + 1)

    def add(self, weights: BlendWeights, label_map: Tensor) -> None:
        """Count one training view: its weights and its compact ids [H, W] (int; -1: no vote)."""
        n_splats, classes = self.votes.shape
        pixels = weights.row_start.numel() - 1
        if weights.n_splats != n_splats or label_map.numel() != pixels:
            raise ValueError(
                f"expected weights of {n_splats} splats and a label map of {pixels} pixels, "
                f"got {weights.n_splats} and {label_map.numel()}"
            )
        device = self.votes.device
        labels = torch.as_tensor(label_map, device=device).reshape(-1).int()
        if labels.numel() and not -1 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"expected labels in -1..{self.n_ids}, got others")
        per_weight = torch.repeat_interleave(labels, weights.row_start.diff().to(device))
        weight = weights.weight.to(device)
        cell = weights.splat.to(device, torch.int64, copy=True).mul_(classes).add_(per_weight)
        if labels.numel() and int(labels.min()) < 0:
            said = per_weight >= 0
            cell, weight = cell[said], weight[said]
        self.votes.view(-1).scatter_add_(0, cell, weight)
        if not self.background:
            self.votes[:, 0] = 0.0

    def labels(self) -> Tensor:
        """Winning id of every splat [N] int64; 0 where nothing was voted."""
        return self.votes.argmax(dim=1)

    def confidence(self) -> Tensor:
        """Share of the winning id in all votes of a splat [N]; 0 where nothing was voted."""
        best, total = self.votes.amax(dim=1), self.votes.sum(dim=1)
        return torch.where(total > 0, best / total.clamp_min(torch.finfo(best.dtype).tiny), best)


class VoteMethod(ClosedForm):
    """Labels of splats by vote, as one more method: it is fitted, and has no loss."""

    ids: IdKind = "global"

    def __init__(self, n_ids: int, background: bool) -> None:
        super().__init__()
        self.n_ids = n_ids
        self.background = background
        self.votes: VoteAccumulator | None = None  # None: not begun, or finished

    def fit(self, views: Iterable[FitView]) -> None:
        """Count the votes of these training views."""
        for view in views:
            if self.votes is None:
                self.votes = VoteAccumulator(len(view.lens.gaussians), self.n_ids, self.background)
            self.votes.add(view.lens.weights(MIN_WEIGHT), view.labels)

    def finish(self, lenses: Iterable[Lens]) -> None:
        """Decide every splat by the votes so far."""
        if self.votes is not None:
            device = self.labels.device
            self.labels = self.votes.labels().to(device)
            self.confidence = self.votes.confidence().to(device)
            self.votes = None

    def state_dict(self) -> dict[str, Any]:
        """Labels, and while votes are being counted these too (most splats have few: sparse)."""
        state = super().state_dict()
        if self.votes is not None:
            at = self.votes.votes.nonzero(as_tuple=True)
            state.update(size=len(self.votes.votes), at=torch.stack(at), votes=self.votes.votes[at])
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state)
        self.votes = None
        if "votes" in state:
            self.votes = VoteAccumulator(int(state["size"]), self.n_ids, self.background)
            self.votes.votes[tuple(state["at"])] = state["votes"]
