# SPDX-License-Identifier: Apache-2.0
"""The vote: every splat takes the id with most blending weight in the training masks. No training.

It is the honest floor under every learned method. The labels become one-hot attributes [N, K + 1];
rendered like any attribute (Eq. 1), their argmax is the label map of a view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization.types import BlendWeights
from iqgs.types import PointSegmentation, Segmentation, StepInputs
from iqgs.winners import Winners, find_winners, mean_scores, panoptic_keep

SPLAT_CHANNELS = 16  # one-hot channels rendered at a time, so that [K + 1, H, W] is never made
EVEN_SHARE = 0.5  # an id surely owns a pixel with more than half of the blending weight

Splat = Callable[[Tensor], Tensor]  # values [N, C] -> [C, H, W] in one view


class VoteAccumulator:
    """Sums of blending weight per splat and id; float32 [N, K + 1] on the CPU, in fixed order."""

    def __init__(self, n_splats: int, n_ids: int, background: bool = True) -> None:
        """With `background`, id 0 is a class of its own; otherwise its pixels are left out."""
        self.n_ids = n_ids
        self.background = background
        self.votes = torch.zeros(n_splats, n_ids + 1)

    def add(self, weights: BlendWeights, label_map: Tensor) -> None:
        """Count one training view: its weights and its compact ids [H, W] (int), -1 = none."""
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
            raise ValueError(f"expected labels in 0..{self.n_ids}, got others")
        per_weight = torch.repeat_interleave(labels, weights.row_start.diff().to(device))
        known = per_weight >= 0
        key = weights.splat.to(device, torch.int64) * classes + per_weight
        self.votes.view(-1).scatter_add_(0, key[known], weights.weight.to(device)[known])
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
    """Labels of splats as a segmentation method: nothing to train, one-hot attributes to render."""

    weights: Mapping[str, float] = {}

    def __init__(self, labels: Tensor, confidence: Tensor, n_ids: int) -> None:
        self.labels = labels
        self.confidence = confidence
        self.n_ids = n_ids

    @classmethod
    def from_votes(cls, votes: VoteAccumulator) -> VoteMethod:
        return cls(votes.labels(), votes.confidence(), votes.n_ids)

    def to(self, device: str | torch.device) -> VoteMethod:
        """Move the labels to the splats' device; returns self."""
        self.labels, self.confidence = self.labels.to(device), self.confidence.to(device)
        return self

    def one_hot(self, ids: Tensor) -> Tensor:
        """Attributes [N, C] of the given ids [C]; splats without any vote carry nothing."""
        chosen = (self.labels[:, None] == ids[None, :]) & (self.confidence[:, None] > 0)
        return chosen.to(self.confidence.dtype)

    def terms(self, step: StepInputs) -> dict[str, Tensor]:
        """No terms: there is nothing to learn."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No parameters."""
        return []

    def segment(
        self, instance_map: Tensor, panoptic: bool = True, alpha: Tensor | None = None
    ) -> Segmentation:
        """Argmax of a rendered one-hot map [K + 1, H, W]; 0 where `alpha` is below a half."""
        ids = torch.arange(self.n_ids + 1, device=instance_map.device)
        columns = instance_map.flatten(1)
        if alpha is not None:
            columns = columns * (alpha.flatten() >= EVEN_SHARE)

        def winners_of(chosen: Tensor) -> Winners:
            return find_winners(
                lambda part: columns[:, part][chosen], len(chosen), columns.shape[1], EVEN_SHARE
            )

        return _segmentation(winners_of, ids, instance_map.shape[1], panoptic)

    def segment_view(self, splat: Splat, height: int, panoptic: bool = True) -> Segmentation:
        """The same through the `splat` of a view of `height` rows, a few ids at a time."""
        present = torch.unique(self.labels)
        return _segmentation(lambda ids: self._splat_winners(splat, ids), present, height, panoptic)

    def _splat_winners(self, splat: Splat, ids: Tensor) -> Winners:
        """Winners over ids [M], rendering SPLAT_CHANNELS of them at a time."""
        best: Tensor | None = None
        row = own = ids.new_zeros(0)
        for start in range(0, len(ids), SPLAT_CHANNELS):
            part = splat(self.one_hot(ids[start : start + SPLAT_CHANNELS])).flatten(1)
            value, index = part.max(dim=0)
            own = torch.cat([own, (part > EVEN_SHARE).sum(dim=1)])
            if best is None:
                best, row = value, index
            else:
                row = torch.where(value > best, index + start, row)
                best = torch.maximum(best, value)
        if best is None:
            raise ValueError("expected at least one id to render")
        area = torch.bincount(row, minlength=len(ids))
        sure = torch.bincount(row[best > EVEN_SHARE], minlength=len(ids))
        return Winners(row, best, area, sure, own)

    def segment_points(self, instance: Tensor) -> PointSegmentation:
        """The voted labels; the attributes [N, D_obj] only have to be of as many splats."""
        if len(instance) != len(self.labels):
            raise ValueError(f"expected {len(self.labels)} splats, got {len(instance)}")
        return PointSegmentation(self.labels, self.confidence)

    def state_dict(self) -> dict[str, Any]:
        return {"labels": self.labels, "confidence": self.confidence, "n_ids": self.n_ids}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.labels, self.confidence = state["labels"], state["confidence"]
        self.n_ids = int(state["n_ids"])


def _segmentation(
    winners_of: Callable[[Tensor], Winners], ids: Tensor, height: int, panoptic: bool
) -> Segmentation:
    """Label map from winners over ids, once more over the kept ones where the filter drops some."""
    winners = winners_of(ids)
    if panoptic:
        keep = panoptic_keep(winners) | (ids == 0)
        if bool((winners.area[~keep] > 0).any()):
            ids = ids[keep]
            if len(ids) == 0:
                return Segmentation(torch.zeros_like(winners.row).view(height, -1), {})
            winners = winners_of(ids)
    labels = torch.where(winners.value > 0, ids[winners.row], torch.zeros_like(winners.row))
    return Segmentation(labels.view(height, -1), mean_scores(labels, winners.value))
