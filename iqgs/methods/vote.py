# SPDX-License-Identifier: Apache-2.0
"""The vote: every splat takes the id with most blending weight in the training masks. No training.

It is the honest floor under every learned method. An id's share of a pixel is the summed blending
weight of its splats (Eq. 1 of one-hot attributes); the largest share wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights
from gaussian_renderer import MIN_WEIGHT, Lens
from iqgs.methods.protocol import (
    Batch,
    FitView,
    IdKind,
    SceneFacts,
    Segmentation,
    SplatLabels,
    StepTerms,
)
from iqgs.methods.winners import SOLID_ALPHA, Winners, find_winners, mean_scores, panoptic_keep
from scene.gaussian_model import GaussianModel

EVEN_SHARE = 0.5  # an id surely owns a pixel with more than half of the blending weight


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
        labels = torch.as_tensor(label_map, device=device).reshape(-1).long()
        if labels.numel() and not -1 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"expected labels in -1..{self.n_ids}, got others")
        per_weight = torch.repeat_interleave(labels, weights.row_start.diff().to(device))
        splat, weight = weights.splat.to(device, torch.int64), weights.weight.to(device)
        said = per_weight >= 0
        if not bool(said.all()):
            splat, weight, per_weight = splat[said], weight[said], per_weight[said]
        self.votes.view(-1).scatter_add_(0, splat * classes + per_weight, weight)
        if not self.background:
            self.votes[:, 0] = 0.0

    def labels(self) -> Tensor:
        """Winning id of every splat [N] int64; 0 where nothing was voted."""
        return self.votes.argmax(dim=1)

    def confidence(self) -> Tensor:
        """Share of the winning id in all votes of a splat [N]; 0 where nothing was voted."""
        best, total = self.votes.amax(dim=1), self.votes.sum(dim=1)
        return torch.where(total > 0, best / total.clamp_min(torch.finfo(best.dtype).tiny), best)


class VoteMethod:
    """Labels of splats by vote, as one more method: it is fitted, and has no loss."""

    ids: IdKind = "global"
    weights: Mapping[str, float] = {}
    neighbors = (0, 0, 1)

    def __init__(self, n_ids: int, background: bool) -> None:
        self.n_ids = n_ids
        self.background = background
        self.votes: VoteAccumulator | None = None  # None: not begun, or finished
        self.labels = torch.zeros(0, dtype=torch.int64)
        self.confidence = torch.zeros(0)

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

    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """The id with the largest share of each pixel; 0 where alpha is below a half."""
        weights, height = lens.weights(0.0), lens.camera.height
        solid = _summed(weights) >= SOLID_ALPHA
        ids = torch.unique(self.labels)
        winners = self._winners(weights, ids, solid)
        if panoptic:
            keep = panoptic_keep(winners) | (ids == 0)
            if bool((winners.area[~keep] > 0).any()):
                ids = ids[keep]
                if len(ids) == 0:
                    nothing = torch.zeros_like(winners.row).view(height, -1)
                    return Segmentation(nothing, {}, self.ids)
                winners = self._winners(weights, ids, solid)
        labels = torch.where(winners.value > 0, ids[winners.row], torch.zeros_like(winners.row))
        return Segmentation(labels.view(height, -1), mean_scores(labels, winners.value), self.ids)

    def _winners(self, weights: BlendWeights, ids: Tensor, solid: Tensor) -> Winners:
        """Winners over ids [M] in all pixels; splats without any vote speak for nobody."""
        column = torch.searchsorted(ids, self.labels).clamp_max(len(ids) - 1)
        silent = (ids[column] != self.labels) | (self.confidence <= 0)
        column = torch.where(silent, len(ids), column)

        def shares(part: slice) -> Tensor:
            return pixel_shares(weights, column, len(ids), part) * solid[part]

        return find_winners(shares, len(ids), len(solid), EVEN_SHARE)

    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """The voted labels."""
        if len(gaussians) != len(self.labels):
            raise ValueError(f"expected {len(self.labels)} splats, got {len(gaussians)}")
        return SplatLabels(self.labels, self.confidence, self.ids)

    def terms(self, batch: Batch) -> StepTerms:
        """No terms: there is nothing to learn."""
        return StepTerms({})

    def observe(self, seen: Any) -> None:
        """Nothing to remember."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No parameters."""
        return []

    def to(self, device: str | torch.device) -> VoteMethod:
        """Move the labels to the splats' device; returns self."""
        self.labels, self.confidence = self.labels.to(device), self.confidence.to(device)
        return self

    def train(self, mode: bool = True) -> VoteMethod:
        """The same either way."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Labels, and while votes are being counted these too (most splats have few: sparse)."""
        state: dict[str, Any] = {"labels": self.labels, "confidence": self.confidence}
        if self.votes is not None:
            at = self.votes.votes.nonzero(as_tuple=True)
            state.update(size=len(self.votes.votes), at=torch.stack(at), votes=self.votes.votes[at])
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        device = self.labels.device
        self.labels = state["labels"].to(device)
        self.confidence = state["confidence"].to(device)
        self.votes = None
        if "votes" in state:
            self.votes = VoteAccumulator(int(state["size"]), self.n_ids, self.background)
            self.votes.votes[tuple(state["at"])] = state["votes"]


def pixel_shares(weights: BlendWeights, column: Tensor, count: int, part: slice) -> Tensor:
    """Summed weight [count, P] of each column's splats in the pixels of `part`.

    `column` [N] in 0..count; splats of column `count` speak for nobody.
    """
    start = weights.row_start[part.start : part.stop + 1]
    first, last = int(start[0]), int(start[-1])
    pixels = len(start) - 1
    pixel = torch.repeat_interleave(start.diff())
    key = pixel * (count + 1) + column[weights.splat[first:last].long()]
    shares = torch.zeros(pixels * (count + 1), device=key.device)
    shares.index_add_(0, key, weights.weight[first:last])
    return shares.view(pixels, count + 1)[:, :count].T


def _summed(weights: BlendWeights) -> Tensor:
    """Accumulated opacity of each pixel [P]."""
    return torch.segment_reduce(weights.weight, "sum", offsets=weights.row_start, initial=0.0)
