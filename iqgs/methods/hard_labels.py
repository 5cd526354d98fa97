# SPDX-License-Identifier: Apache-2.0
"""One label for each splat, and how such labels answer for a view.

An id's share of a pixel is the summed blending weight of its splats (Eq. 1 of one-hot attributes);
the largest share wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights
from gaussian_renderer import Lens
from iqgs.methods.protocol import Batch, IdKind, Segmentation, SplatLabels, StepTerms
from iqgs.methods.winners import SOLID_ALPHA, Winners, find_winners, mean_scores, panoptic_keep
from scene.gaussian_model import GaussianModel

EVEN_SHARE = 0.5  # an id surely owns a pixel with more than half of the blending weight


def segment_by_labels(lens: Lens, splats: SplatLabels, panoptic: bool) -> Segmentation:
    """The id with the largest share of each pixel; 0 where alpha is below a half.

    Splats without any confidence speak for nobody.
    """
    weights, height = lens.weights(0.0), lens.camera.height
    solid = accumulated(weights) >= SOLID_ALPHA
    ids = torch.unique(splats.labels)
    winners = _winners(weights, splats, ids, solid)
    if panoptic:
        keep = panoptic_keep(winners) | (ids == 0)
        if bool((winners.area[~keep] > 0).any()):
            ids = ids[keep]
            if len(ids) == 0:
                nothing = torch.zeros_like(winners.row).view(height, -1)
                return Segmentation(nothing, {}, splats.ids)
            winners = _winners(weights, splats, ids, solid)
    labels = torch.where(winners.value > 0, ids[winners.row], torch.zeros_like(winners.row))
    return Segmentation(labels.view(height, -1), mean_scores(labels, winners.value), splats.ids)


def _winners(weights: BlendWeights, splats: SplatLabels, ids: Tensor, solid: Tensor) -> Winners:
    """Winners over ids [M] in all pixels."""
    column = torch.searchsorted(ids, splats.labels).clamp_max(len(ids) - 1)
    silent = (ids[column] != splats.labels) | (splats.confidence <= 0)
    column = torch.where(silent, len(ids), column)

    def shares(part: slice) -> Tensor:
        return pixel_shares(weights, column, len(ids), part) * solid[part]

    return find_winners(shares, len(ids), len(solid), EVEN_SHARE)


class LabelledSplats:
    """An answer that is one label for each splat; of no splats until there is one."""

    ids: IdKind

    def __init__(self) -> None:
        self.labels = torch.zeros(0, dtype=torch.int64)
        self.confidence = torch.zeros(0)

    @property
    def splats(self) -> SplatLabels:
        """The labels with what they mean."""
        return SplatLabels(self.labels, self.confidence, self.ids)

    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """The id with the largest share of each pixel; 0 where alpha is below a half."""
        return segment_by_labels(lens, self.splats, panoptic)

    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """The labels; ValueError where they are of other splats."""
        if len(gaussians) != len(self.labels):
            raise ValueError(f"expected {len(self.labels)} splats, got {len(gaussians)}")
        return self.splats

    def to(self, device: str | torch.device) -> Any:
        """Move the labels to the splats' device; returns self."""
        self.labels, self.confidence = self.labels.to(device), self.confidence.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """The labels."""
        return {"labels": self.labels, "confidence": self.confidence}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        device = self.labels.device
        self.labels = state["labels"].to(device)
        self.confidence = state["confidence"].to(device)


class ClosedForm(LabelledSplats):
    """A method that is fitted view by view: labels as its answer, and nothing to optimise."""

    weights: Mapping[str, float] = {}
    neighbors = (0, 0, 1)

    def terms(self, batch: Batch) -> StepTerms:
        """No terms: there is nothing to learn."""
        return StepTerms({})

    def observe(self, seen: Any) -> None:
        """Nothing to remember."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No parameters."""
        return []

    def train(self, mode: bool = True) -> Any:
        """The same either way."""
        return self


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


def accumulated(weights: BlendWeights) -> Tensor:
    """Accumulated opacity of each pixel [P]."""
    return torch.segment_reduce(weights.weight, "sum", offsets=weights.row_start, initial=0.0)
