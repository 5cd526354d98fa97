# SPDX-License-Identifier: Apache-2.0
"""The settings of SAGA."""

from __future__ import annotations

from dataclasses import dataclass

from arguments import option, require, require_at_least
from iqgs.methods.clustering import ClusterParams


@dataclass(frozen=True)
class SAGAParams(ClusterParams):
    """SAGA: contrastive features that masks of all sizes teach, gated by scale."""

    mask_scales: int = option(8, "scales of the view's masks that a step compares at, at most")
    smooth_neighbors: int = option(16, "splats that a feature is averaged over; 1: its own alone")
    random_pairs: int = option(0, "pairs of pixels with one answer at all scales, at least")
    lambda_norm: float = option(1.0, "weight of the length of the rendered features")
    answer_scale: float = option(1.0, "scale of the answers: 0 the smallest masks, 1 the largest")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "smooth_neighbors")
        require_at_least(self, 0, "mask_scales", "random_pairs", "lambda_norm")
        require(0 <= self.answer_scale <= 1, "answer_scale", self.answer_scale, "in [0, 1]")
