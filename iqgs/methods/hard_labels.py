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

from gaussian_renderer import Lens
from iqgs.methods.protocol import Batch, IdKind, Segmentation, SplatLabels, StepTerms
from iqgs.methods.winners import (
    SOLID_ALPHA,
    Winners,
    mean_scores,
    panoptic_keep,
    winners_by_candidates,
)
from scene.gaussian_model import GaussianModel

CHANNELS = 32  # ids rendered at once: bounds memory to so many images of a view
EVEN_SHARE = 0.5  # an id surely owns a pixel with more than half of the blending weight


def segment_by_labels(lens: Lens, splats: SplatLabels, panoptic: bool) -> Segmentation:
    """The id with the largest share of each pixel; 0 where alpha is below a half.

    Splats without any confidence speak for nobody.
    """
    height = lens.camera.height
    ids = torch.unique(splats.labels)
    winners = _winners(lens, splats, ids)
    if panoptic:
        keep = panoptic_keep(winners) | (ids == 0)
        if bool((winners.area[~keep] > 0).any()):
            ids = ids[keep]
            if len(ids) == 0:
                nothing = torch.zeros_like(winners.row).view(height, -1)
                return Segmentation(nothing, {}, splats.ids)
            winners = _winners(lens, splats, ids)
    labels = torch.where(winners.value > 0, ids[winners.row], torch.zeros_like(winners.row))
    return Segmentation(labels.view(height, -1), mean_scores(labels, winners.value), splats.ids)


def _winners(lens: Lens, splats: SplatLabels, ids: Tensor) -> Winners:
    """Winners over ids [M] in all pixels, the images of CHANNELS ids at a time."""
    solid = lens.alpha.flatten() >= SOLID_ALPHA
    speaks = splats.confidence > 0

    def shares(some: slice) -> Tensor:
        one_hot = (splats.labels[:, None] == ids[some]) & speaks[:, None]
        return lens.splat(one_hot.to(lens.alpha)).flatten(1) * solid

    return winners_by_candidates(shares, len(ids), CHANNELS, EVEN_SHARE)


class SplatAnswer:
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


class ClosedForm(SplatAnswer):
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
