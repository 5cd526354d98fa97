# SPDX-License-Identifier: Apache-2.0
"""The records of the segmentation methods, and the protocol that every method follows.

Ids here are compact: objects are 1..K, 0 is "no instance", -1 "nobody said". Q queries, P sampled
pixels of one view, N splats, R of them looked at by a step, E neighbour pairs, D_obj channels of
the splats' instance attribute, D channels of queries and features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from gaussian_renderer import Lens
from scene.gaussian_model import GaussianModel
from scene.masks import MaskPatches

# What the ids of an answer mean: compact ids of the mask files, the same in every view; numbers of
# queries; or numbers of clusters. Only the first can be turned into the numbers of the files.
IdKind = Literal["global", "queries", "clusters"]

ALL_TOUCHED = -1  # as the number of splats whose neighbours a method wants: those of its pixels


@dataclass(frozen=True)
class SceneFacts:
    """What a method has to know of the scene and the run before it is built."""

    num_ids: int  # K, at least 1
    densest_view: int  # most ids that one training view shows
    zero_is_background: bool  # id 0 is a class of its own; else its pixels say nothing
    instance_dim: int  # D_obj
    seed: int
    tracks: bool = False  # ids number the tracks of an association, not objects of the files
    noisy: bool = False  # the masks did not agree and had to be repaired


@dataclass(frozen=True)
class Batch:
    """What one training step gives to a method: P sampled pixels of one view, and R splats."""

    features: Tensor  # [P, D_obj] rendered instance attribute
    labels: Tensor  # [P] int64 compact ids, 0 = the zero label, -1 = no target
    instance: Tensor  # [R, D_obj] raw attributes of the splats that this step looks at
    touched: Tensor  # [U] int64 rows of `instance`: splats that contribute to the sampled pixels
    splat: Callable[[Tensor], Tensor]  # values [U, C] of the touched splats -> [P, C] (Eq. 1)
    pairs: Tensor  # [E, 2] int64 rows of `instance`: sampled pairs of neighbouring splats
    alpha: Tensor  # [P] accumulated opacity
    pixels: Tensor  # [P] int64, y * width + x
    view: int  # number of the training view
    layers: Callable[[], MaskPatches] | None = None  # the view's masks at these pixels, unread
    # [P] int of the connected regions of the label map at these pixels, unread; 0 and -1 as labels
    regions: Callable[[], Tensor] | None = None
    generator: torch.Generator | None = None  # on the CPU, of the step: for the method's choices


@dataclass(frozen=True)
class StepTerms:
    """The unweighted scalar terms of a step, and what the method wants to remember of it."""

    terms: dict[str, Tensor]
    seen: Any = None  # handed back to `observe` once the step is made
    doubt: Tensor | None = None  # [] share of the labels that it did not believe; None: it trusts


@dataclass(frozen=True)
class Segmentation:
    """The instances seen in one view."""

    label_map: Tensor  # [H, W] int64, 0 = no instance
    scores: dict[int, float]  # id -> mean winning probability over its pixels
    ids: IdKind


@dataclass(frozen=True)
class SplatLabels:
    """The instance of every splat."""

    labels: Tensor  # [N] int64, 0 = no instance
    confidence: Tensor  # [N] float32 in 0..1, probability of the winning id
    ids: IdKind


@dataclass(frozen=True)
class FitView:
    """One whole training view."""

    lens: Lens
    labels: Tensor  # [H, W] compact ids
    layers: Callable[[], MaskPatches] | None = None  # its masks, which may overlap, unread
    image: Callable[[], Tensor] | None = None  # its photograph [3, H, W] in 0..1, unread
    number: int = 0  # of the training view, as in `Batch.view`
    round: int = 0  # how often the views were seen before


class Method(Protocol):
    """A way to learn and to read instances; the engine knows nothing else about a method."""

    ids: IdKind

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term in the total loss (Eq. 15)."""

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """(k, splats, interval): neighbours of so many random splats, every so many steps.

        With ALL_TOUCHED splats `Batch.pairs` are [U * k, 2], k for each touched splat in turn.
        """

    def terms(self, batch: Batch) -> StepTerms:
        """Loss terms of one step. Changes nothing of the method."""

    def observe(self, seen: Any) -> None:
        """Running statistics, after a step that was made."""

    def fit(self, views: Iterable[FitView]) -> None:
        """Closed-form methods: take these training views into account. Methods that are trained
        see all views once before their first step, unread; most of them do nothing.
        """

    def finish(self, lenses: Iterable[Lens]) -> None:
        """Bring what is read from the method up to date with its parameters, over these views."""

    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """Instances of one view; `panoptic` drops those that hardly win what they claim."""

    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """Instances of the splats."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer, each {"name", "params"}; learning rates are the engine's."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a trained method needs to be used again."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Put back what `state_dict` gave."""

    def to(self, device: str | torch.device) -> Any:
        """Move to the splats' device; returns self."""

    def train(self, mode: bool = True) -> Any:
        """Switch between learning and reading."""


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of weight times term (Eq. 15); raises ValueError for no terms or one without weight."""
    missing = sorted(set(terms) - set(weights))
    if not terms or missing:
        raise ValueError(f"expected terms that all have a weight, got none or without: {missing}")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
