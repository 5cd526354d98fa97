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
    without_dropped,
)
from scene.gaussian_model import GaussianModel

CHANNELS = 32  # ids rendered at once: bounds memory to so many images of a view
KEPT_SHARES = 1 << 24  # numbers of a view that may be kept at once: 64 MB
EVEN_SHARE = 0.5  # an id surely owns a pixel with more than half of the blending weight


class _Shares:
    """Every id's share of every pixel of a view, and who has the largest.

    The images of some ids are made at a time; all are kept where they take little room.
    """

    def __init__(self, lens: Lens, splats: SplatLabels) -> None:
        self.ids = torch.unique(splats.labels)
        self.splats, self.lens = splats, lens
        self.solid = lens.alpha.flatten() >= SOLID_ALPHA
        self.speaks = splats.confidence > 0
        self.kept: dict[int, Tensor] | None = None
        if len(self.ids) * self.solid.numel() <= KEPT_SHARES:
            self.kept = {}
        self.winners = winners_by_candidates(self.of, len(self.ids), CHANNELS, EVEN_SHARE)

    def of(self, some: slice) -> Tensor:
        """The shares [M, n] of the ids of a chunk."""
        if self.kept is not None and some.start in self.kept:
            return self.kept[some.start]
        shares = self._rendered(self.ids[some])
        if self.kept is not None:
            self.kept[some.start] = shares
        return shares

    def _rendered(self, ids: Tensor) -> Tensor:
        one_hot = (self.splats.labels[:, None] == ids) & self.speaks[:, None]
        return self.lens.splat(one_hot.to(self.lens.alpha)).flatten(1) * self.solid

    def again(self, rows: Tensor, columns: Tensor) -> Winners:
        """Winners of some columns over some of the ids."""

        def shares(some: slice) -> Tensor:
            if self.kept is None:
                return self._rendered(self.ids[rows[some]])[:, columns]
            whole = torch.cat([self.kept[at][:, columns] for at in sorted(self.kept)])
            return whole[rows[some]]

        return winners_by_candidates(shares, len(rows), CHANNELS, EVEN_SHARE)


def segment_by_labels(lens: Lens, splats: SplatLabels, panoptic: bool) -> Segmentation:
    """The id with the largest share of each pixel; 0 where alpha is below a half.

    Splats without any confidence speak for nobody. Asked twice through one lens, with and without
    `panoptic`, the shares are made once.
    """
    height = lens.camera.height
    # The tensor itself is kept beside what was made of it: its address stays its own.
    key = ("shares of labels", id(splats.labels), id(splats.confidence), splats.ids)
    shares = lens.once(key, lambda: _Shares(lens, splats))
    row, value = shares.winners.row, shares.winners.value
    if panoptic:
        keep = panoptic_keep(shares.winners) | (shares.ids == 0)
        row, value = without_dropped(shares.winners, keep, shares.again)
    labels = torch.where(value > 0, shares.ids[row], torch.zeros_like(row))
    return Segmentation(labels.view(height, -1), mean_scores(labels, value), splats.ids)


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
        return segment_by_labels(lens.by_color, self.splats, panoptic)

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

    def seen(self) -> Tensor | None:
        """Which splats [N] bool the views showed, where the method knows."""
        return None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No parameters."""
        return []

    def train(self, mode: bool = True) -> Any:
        """The same either way."""
        return self
