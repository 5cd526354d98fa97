# SPDX-License-Identifier: Apache-2.0
"""The settings of IQGS. Equation numbers are the paper's."""

from __future__ import annotations

from dataclasses import dataclass

from arguments import option, require, require_at_least


@dataclass(frozen=True)
class BranchParams:
    """The query branch: learnable queries that a view enriches."""

    num_queries: int = option(300, "N_q; 0: by the number of objects")
    feature_dim: int = option(16, "D, of queries and features")
    attention_pixels: int = option(4096, "keys of a view that the queries attend to, at most")
    attention_keys: str = option(
        "strided", "keys: every n-th pixel, or means of n pixels", choices=("strided", "pooled")
    )
    literal_attention: bool = option(
        False, "Eq. 5 to the letter, without residuals and norms: it collapses"
    )

    def __post_init__(self) -> None:
        require_at_least(self, 1, "feature_dim", "attention_pixels")
        require_at_least(self, 0, "num_queries")


@dataclass(frozen=True)
class IQGSParams(BranchParams):
    """IQGS: learnable queries decode the rendered instance attribute."""

    lambda_mask: float = option(20.0, "weight of the focal term (Eq. 11)")
    lambda_dice: float = option(1.0, "weight of the dice term (Eq. 12)")
    lambda_reg: float = option(1.0, "weight of the 3D smoothness (Eq. 13)")
    lambda_geom: float = option(1.0, "weight of the 2D-3D consistency (Eq. 14)")
    focal_gamma: float = option(
        2.0, "focusing exponent; -1: 2, or 0 where the masks had to be repaired"
    )
    focal_alpha: float = option(-1.0, "class balance of the focal term; -1: none")
    reg_target: str = option(
        "probability",
        "what neighbours share: probabilities, or features (Eq. 13 to the letter)",
        choices=("probability", "feature"),
    )
    correction_iou: float = option(
        0.0,
        "a mask goes to the object that the scene already shows there, from this IoU of both on; "
        "0: ids are taken at their word; -1: 0.2, or 0 where the masks had to be repaired",
    )
    reg3d_k: int = option(5, "neighbours of a splat in Eq. 13")
    reg3d_sample_size: int = option(1000, "splats whose neighbours a step compares")
    reg3d_interval: int = option(1, "steps between applications of Eq. 13")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "reg3d_k", "reg3d_sample_size", "reg3d_interval")
        require_at_least(self, 0, "lambda_mask", "lambda_dice", "lambda_reg", "lambda_geom")
        require(
            self.correction_iou == -1 or 0 <= self.correction_iou < 1,
            "correction_iou",
            self.correction_iou,
            "in [0, 1), or -1 to decide by the masks",
        )
        require(
            self.focal_gamma == -1 or self.focal_gamma >= 0,
            "focal_gamma",
            self.focal_gamma,
            "0 or positive, or -1 to decide by the masks",
        )
        require(
            self.focal_alpha == -1 or 0 <= self.focal_alpha <= 1,
            "focal_alpha",
            self.focal_alpha,
            "in [0, 1], or -1 for none",
        )

    @property
    def alpha(self) -> float | None:
        """The class balance; None for none."""
        return None if self.focal_alpha == -1 else self.focal_alpha

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term, in the order of Eq. 15."""
        return {
            "mask": self.lambda_mask,
            "dice": self.lambda_dice,
            "reg3d": self.lambda_reg,
            "consistency": self.lambda_geom,
        }


@dataclass(frozen=True)
class HungarianParams(IQGSParams):
    """IQGS-H: queries meet the masks of each view by the assignment of least cost (Eq. 9-10)."""

    matching_pixels: int = option(12544, "pixels that the matching looks at, at most")
    steady_matching: bool = option(
        False, "match by queries averaged over recent views, not by the view's own"
    )
    usage_cost: float = option(0.0, "extra cost of queries that own other objects")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "matching_pixels")
        require_at_least(self, 0, "usage_cost")
