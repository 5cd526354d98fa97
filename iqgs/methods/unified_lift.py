# SPDX-License-Identifier: Apache-2.0
"""Unified-Lift (Zhu et al., CVPR 2025): contrastive features, and a codebook of objects.

Features of splats are taught only that pixels of one mask are alike and others not; a codebook with
a row for each object learns where the masks' features lie. Ids may be fresh in every view: which
code a mask belongs to is decided anew by an assignment. Written from the paper's equations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments import option, require, require_at_least
from gaussian_renderer import Lens
from iqgs.methods.classes import decide, segment_by_softmax, taught
from iqgs.methods.protocol import (
    Batch,
    FitView,
    IdKind,
    SceneFacts,
    Segmentation,
    SplatLabels,
    StepTerms,
)
from iqgs.methods.winners import ScoreChunk
from scene.gaussian_model import GaussianModel
from utils.errors import UserError
from utils.tensors import select_rows

LEAST_NORM = 1e-6  # against 0 / 0 only


@dataclass(frozen=True)
class UnifiedLiftParams:
    """Unified-Lift: contrastive features and a codebook of objects."""

    codes: int = option(0, "rows of the codebook; 0: about twice the objects of a view")
    temperature: float = option(0.1, "similarities are divided by it (released: 1)")
    lambda_contrast: float = option(1.0, "weight of the contrastive term")
    lambda_codes: float = option(1.0, "weight of the cross-entropy over codes")
    lambda_concentration: float = option(1.0, "weight of the distance between codes and features")
    lambda_norm: float = option(1.0, "weight of features of length 1")
    area_aware: bool = option(
        True, "a mask counts in the assignment by its pixels; else all count alike"
    )
    confidence: float = option(
        0.5, "the distance looks at pixels that are so sure to be in their mask; 0: at all"
    )
    concentration_moves_splats: bool = option(
        False, "the distance moves features too, not only codes"
    )

    def __post_init__(self) -> None:
        require(self.codes == 0 or self.codes >= 2, "codes", self.codes, "0, or 2 or more")
        require(self.temperature > 0, "temperature", self.temperature, "positive")
        require(0 <= self.confidence <= 1, "confidence", self.confidence, "between 0 and 1")
        require_at_least(
            self, 0, "lambda_contrast", "lambda_codes", "lambda_concentration", "lambda_norm"
        )


def build(params: UnifiedLiftParams, facts: SceneFacts, generator: torch.Generator) -> UnifiedLift:
    """A fresh codebook, large enough for the densest view."""
    return UnifiedLift(params, params.codes or 2 * facts.densest_view + 1, facts, generator)


class UnifiedLift(nn.Module):
    """Code 0 stands for the zero label; under `--zero_label ignore` it owns nothing.

    `seen` are the codes that ever owned a mask: only they may win.
    """

    seen: Tensor
    ids: IdKind = "queries"

    def __init__(
        self, params: UnifiedLiftParams, codes: int, facts: SceneFacts, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.params = params
        self.zero_is_background = facts.zero_is_background
        directions = torch.randn(max(codes, 2), facts.instance_dim, generator=generator)
        self.codebook = nn.Parameter(F.normalize(directions, dim=1))
        self.register_buffer("seen", torch.zeros(len(directions), dtype=torch.bool))

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term."""
        return {
            "contrast": self.params.lambda_contrast,
            "codes": self.params.lambda_codes,
            "concentration": self.params.lambda_concentration,
            "norm": self.params.lambda_norm,
        }

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """No neighbours are compared."""
        return 0, 0, 1

    def terms(self, batch: Batch) -> StepTerms:
        """All four terms of one step."""
        keep = taught(batch.labels, self.zero_is_background)
        features, labels = batch.features[keep], batch.labels[keep]
        splats = select_rows(batch.instance, batch.touched)
        terms = {"norm": (splats.norm(dim=1) - 1.0).square().mean()}
        if len(labels) == 0:
            return StepTerms(terms, labels)
        present, own = torch.unique(labels, return_inverse=True)
        contrast, sure = contrastive_loss(features, own, self.params.temperature)
        logits = features.detach() @ self.codebook.T / self.params.temperature
        code = self.assign(torch.softmax(logits.detach(), dim=1), own, present)
        terms["contrast"] = contrast
        terms["codes"] = F.cross_entropy(logits, code[own])
        terms["concentration"] = self._concentration(features, code[own], sure)
        return StepTerms(terms, code)

    def _concentration(self, features: Tensor, code: Tensor, sure: Tensor) -> Tensor:
        """Mean L1 distance of the pixels' codes from their features' directions, sure pixels."""
        if not self.params.concentration_moves_splats:
            features = features.detach()
        trusted = sure >= self.params.confidence
        direction = F.normalize(features[trusted], dim=1, eps=LEAST_NORM)
        distance = (self.codebook[code[trusted]] - direction).abs().sum()
        return distance / max(int(trusted.sum()), 1)

    @torch.no_grad()
    def assign(self, probabilities: Tensor, own: Tensor, present: Tensor) -> Tensor:
        """One code for each id of a view: [P, L], rows [P] of `present` [T] -> [T] codes.

        The assignment with the largest total probability over the pixels of the masks
        (`area_aware`), or over the masks' means. Id 0 is pinned to code 0. Raises UserError where
        a view shows more masks than there are codes.
        """
        from scipy.optimize import linear_sum_assignment  # slow to import, for this method only

        mass = torch.zeros(len(present), probabilities.shape[1], device=own.device)
        mass.index_add_(0, own, probabilities)
        if not self.params.area_aware:
            mass = mass / torch.bincount(own)[:, None]
        objects = present > 0
        if int(objects.sum()) > len(self.codebook) - 1:
            raise UserError(
                f"--codes {len(self.codebook)} is too small: a view shows {int(objects.sum())} "
                f"masks, so pass --codes {int(objects.sum()) + 1} or more (about twice that)."
            )
        code = torch.zeros_like(present)
        _, columns = linear_sum_assignment(-mass[objects, 1:].cpu().numpy())
        code[objects] = torch.as_tensor(columns, device=own.device, dtype=torch.int64) + 1
        return code

    @torch.no_grad()
    def observe(self, seen: Tensor) -> None:
        """Note the codes that owned a mask."""
        self.seen[seen] = True

    def fit(self, views: Iterable[FitView]) -> None:
        """Nothing: codes are trained."""

    def finish(self, lenses: Iterable[Lens]) -> None:
        """Nothing: codes are always up to date."""

    def _scores(self, numbers: Tensor, columns: Tensor) -> ScoreChunk:
        codes = self.codebook[numbers] / self.params.temperature
        return lambda part: codes @ columns[:, part]

    @torch.no_grad()
    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """Instances of a view: the code that is most like each pixel's feature."""
        numbers = self.seen.nonzero().flatten()
        scores = self._scores(numbers, lens.features.flatten(1))
        return segment_by_softmax(lens, numbers, scores, panoptic, self.ids)

    @torch.no_grad()
    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """The code that is most like each splat's own feature."""
        numbers, columns = self.seen.nonzero().flatten(), gaussians.instance.detach().T
        all_of_them = torch.ones(len(gaussians), dtype=torch.bool, device=columns.device)
        labels, sure = decide(numbers, self._scores(numbers, columns), all_of_them, panoptic=False)
        return SplatLabels(labels, sure, self.ids)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; the learning rates are the engine's."""
        return [{"name": "codebook", "params": [self.codebook]}]


def contrastive_loss(features: Tensor, own: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Every pixel is most like the mean direction of its own mask (InfoNCE with means).

        u_t = mean of F / |F| over mask t,   p = softmax_t( F / |F| . u_t / temperature )

    The length of a feature is not learned here: its gradient is that of the direction.

    Args:
        features: [P, D] of the pixels.
        own: [P] int64, masks 0..T-1, each with a pixel.
        temperature: What similarities are divided by.

    Returns:
        The mean of -ln p of the own mask, and these p [P], detached.
    """
    direction = features / features.detach().norm(dim=1, keepdim=True).clamp_min(LEAST_NORM)
    count = torch.bincount(own)
    means = torch.zeros(len(count), features.shape[1], device=own.device, dtype=features.dtype)
    means = means.index_add(0, own, direction) / count[:, None]
    likeness = torch.log_softmax(direction @ means.T / temperature, dim=1)
    right = likeness.gather(1, own[:, None])[:, 0]
    return -right.mean(), right.detach().exp()
