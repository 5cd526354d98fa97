# SPDX-License-Identifier: Apache-2.0
"""The settings of OmniSeg3D."""

from __future__ import annotations

from dataclasses import dataclass

from arguments import option, require, require_at_least
from iqgs.methods.clustering import ClusterParams


@dataclass(frozen=True)
class OmniSegParams(ClusterParams):
    """OmniSeg3D: contrastive features; patches that share more masks are nearer."""

    containment: float = option(0.9, "share of a mask within a larger one that makes it its part")
    patch_pixels: int = option(20, "a patch with no more sampled pixels than this says nothing")
    temperature_low: float = option(0.5, "of the contrast, for patches whose pixels agree")
    temperature_high: float = option(1.0, "of the contrast, for patches whose pixels differ")
    level_decay: float = option(5.0, "each level of the hierarchy counts this many times less")
    lambda_hierarchy: float = option(0.001, "weight of the contrast, summed over 32768 pixels")
    lambda_norm: float = option(100.0, "weight of the length of the splats' features")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "patch_pixels", "lambda_hierarchy", "lambda_norm")
        require(0 < self.containment <= 1, "containment", self.containment, "in (0, 1]")
        require(self.temperature_low > 0, "temperature_low", self.temperature_low, "positive")
        require(
            self.temperature_low <= self.temperature_high,
            "temperature_high",
            self.temperature_high,
            "at least --temperature_low",
        )
        require(self.level_decay >= 1, "level_decay", self.level_decay, "at least 1")

    @property
    def temperatures(self) -> tuple[float, float]:
        """Lowest and highest."""
        return self.temperature_low, self.temperature_high
