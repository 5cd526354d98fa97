# SPDX-License-Identifier: Apache-2.0
"""The settings of SA3D."""

from __future__ import annotations

from dataclasses import dataclass

from arguments import option, require, require_at_least


@dataclass(frozen=True)
class SA3DParams:
    """SA3D: every object prompts the segmenter in the next view, and its masks fill the splats."""

    sam_checkpoint: str = option("", "weights of SAM; empty: the masks of the views answer prompts")
    sam_model: str = option("vit_h", "the size of these", choices=("vit_h", "vit_l", "vit_b"))
    passes: int = option(2, "rounds through the views; after the first, doubtful splats are out")
    prompts: int = option(3, "points that an object shows to the segmenter, at most")
    least_agreement: float = option(0.5, "IoU of object and answer below which a view is skipped")
    new_object_share: float = option(0.5, "a mask with less of it claimed starts an object")
    new_object_pixels: int = option(16, "if it has so many pixels")
    lambda_outside: float = option(0.3, "weight of what an object shows outside its mask")
    score_rate: float = option(1.0, "Adam rate of the splats' scores")

    def __post_init__(self) -> None:
        require_at_least(self, 1, "passes", "prompts", "new_object_pixels")
        require_at_least(self, 0, "lambda_outside")
        require(self.score_rate > 0, "score_rate", self.score_rate, "positive")
        for name in ("least_agreement", "new_object_share"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
