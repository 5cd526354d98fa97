# SPDX-License-Identifier: Apache-2.0
"""The records of the segmentation methods, and the protocol that every method follows.

Ids here are compact: objects are 1..K, 0 is "no instance". Q queries, P sampled pixels of one view,
N splats, U of them touched by the sampled pixels, E neighbour pairs, D_obj channels of the splats'
instance attribute, D channels of queries and features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

TERM_NAMES = ("mask", "dice", "reg3d", "consistency")  # in the order of Eq. 15


@dataclass(frozen=True)
class StepInputs:
    """What one training step gives to a method: P sampled pixels of one view, and the splats."""

    features: Tensor  # [P, D_obj] rendered instance attribute
    labels: Tensor  # [P] int64 compact ids, 0 = the zero label, -1 = no target
    instance: Tensor  # [N, D_obj] raw attributes of all splats
    touched: Tensor  # [U] int64, splats that contribute to the sampled pixels
    splat: Callable[[Tensor], Tensor]  # values [U, C] of the touched splats -> [P, C] (Eq. 1)
    pairs: Tensor  # [E, 2] int64, sampled pairs of neighbouring splats (indices into N)
    alpha: Tensor  # [P] accumulated opacity


@dataclass(frozen=True)
class QueryPrediction:
    """Queries and pixels of one view. Logits are their products, formed where they are needed and
    never for all queries and pixels of a view at once.
    """

    queries: Tensor  # [Q, D] all enriched queries of the view
    features: Tensor  # [P, D] of the supervised pixels
    supervised: range  # the queries that the losses are about


@dataclass(frozen=True)
class Matching:
    """Which query owns which object in one view; M pairs, sorted by id."""

    query: Tensor  # [M] int64 query numbers
    target: Tensor  # [M] int64 ids present in the view


@dataclass(frozen=True)
class Segmentation:
    """The instances seen in one view."""

    label_map: Tensor  # [H, W] int64 compact ids (query numbers for Hungarian), 0 = no instance
    scores: dict[int, float]  # id -> mean winning probability over its pixels


@dataclass(frozen=True)
class PointSegmentation:
    """The instance of every splat."""

    labels: Tensor  # [N] int64, 0 = no instance
    confidence: Tensor  # [N] float32 in 0..1, probability of the winning id


@dataclass(frozen=True)
class MethodOptions:
    """Everything that builds a method; the values come from `arguments/`."""

    matching: str  # id | hungarian
    num_queries: int  # Q, at least K + 1 for id
    feature_dim: int  # D
    instance_dim: int  # D_obj
    num_ids: int  # K
    zero_label: str  # background | ignore
    lambda_mask: float
    lambda_dice: float
    lambda_reg: float
    lambda_geom: float
    focal_gamma: float
    focal_alpha: float | None  # None = no balance between object and rest
    reg_target: str  # probability | feature (Eq. 13 read literally)
    attention_pixels: int  # queries are enriched from at most this many keys of a view
    seed: int
    steady_matching: bool = False  # Hungarian: match by queries averaged over recent views
    usage_cost: float = 0.0  # Hungarian: cost of a query that was matched in every recent view
    attention_keys: str = "strided"  # strided (every n-th pixel) | pooled (means of n pixels)
    matching_pixels: int = 12_544  # Hungarian: pixels of a view that the cost looks at, at most
    residual: bool = True  # False: Eq. 5 without residuals and norms, which collapses (ablation)


class SegmentationMethod(Protocol):
    """A way to learn and to read instances; the engine knows nothing else about a method."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term in the total loss (Eq. 15)."""

    def terms(self, step: StepInputs) -> dict[str, Tensor]:
        """Unweighted scalar loss terms of one step."""

    def segment(
        self, instance_map: Tensor, panoptic: bool = True, alpha: Tensor | None = None
    ) -> Segmentation:
        """Instances in a rendered attribute map [D_obj, H, W]; `alpha` [1, H, W] if it is known."""

    def segment_points(self, instance: Tensor) -> PointSegmentation:
        """Instances of the splats from their attributes [N, D_obj]."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer, each {"name", "params"}; learning rates are the engine's."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a trained method needs to be used again."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Put back what `state_dict` gave."""
