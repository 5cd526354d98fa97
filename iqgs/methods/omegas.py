# SPDX-License-Identifier: Apache-2.0
"""OMEGAS (Wang et al., IEEE TCSVT 2025): Gaussian Grouping on 2DGS, neighbours compared by cosine.

The released program applies the whole loss in one step of five and adds the cosines of a splat's
neighbours up instead of averaging them: `--variant released`. `intended` is what the equations say.
`--preset paper` is the released program with its eight channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from arguments import option, require_at_least
from iqgs.methods.classes import count_classes, identity_loss
from iqgs.methods.classifier import IdentityClassifier
from iqgs.methods.protocol import Batch, SceneFacts, StepTerms
from utils.tensors import select_rows


@dataclass(frozen=True)
class OmegasParams:
    """OMEGAS: a linear classifier of the rendered attribute, cosines in 3D."""

    variant: str = option(
        "intended",
        "intended: ids are learned in every step; released: in one of --cosine_interval, and the "
        "cosines of a splat with its neighbours and itself are added up",
        choices=("intended", "released"),
    )
    classes: int = option(0, "classes of the classifier; 0: one an id, and one for id 0")
    lambda_identity: float = option(1.0, "weight of the cross-entropy over ids")
    lambda_cosine: float = option(2.0, "weight of the cosine between neighbouring splats")
    cosine_k: int = option(5, "neighbours of a splat (released: with itself)")
    cosine_sample_size: int = option(1000, "splats whose neighbours a step compares")
    cosine_interval: int = option(5, "steps between such comparisons")

    def __post_init__(self) -> None:
        require_at_least(self, 1, "cosine_sample_size", "cosine_interval")
        require_at_least(self, 2, "cosine_k")
        require_at_least(self, 0, "classes", "lambda_identity", "lambda_cosine")

    @property
    def released(self) -> bool:
        """Whether to do as the released program does."""
        return self.variant == "released"


def build(params: OmegasParams, facts: SceneFacts, generator: torch.Generator) -> Omegas:
    """A fresh classifier for the ids of a scene. UserError."""
    return Omegas(params, count_classes(params.classes, facts), facts, generator)


class Omegas(IdentityClassifier):
    """Cross-entropy over ids in 2D, and the cosine of neighbours' probabilities in 3D."""

    def __init__(
        self, params: OmegasParams, classes: int, facts: SceneFacts, generator: torch.Generator
    ) -> None:
        super().__init__(classes, facts, generator)
        self.params = params

    @property
    def weights(self) -> dict[str, float]:
        """Weight of both terms."""
        return {"identity": self.params.lambda_identity, "cosine": self.params.lambda_cosine}

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """The neighbours that are compared; steps that have some are those of the whole loss."""
        others = self.params.cosine_k - self.params.released
        used = self.params.released or self.params.lambda_cosine != 0
        return others, self.params.cosine_sample_size * used, self.params.cosine_interval

    def terms(self, batch: Batch) -> StepTerms:
        """Both terms of one step; as released all of them are 0 in most steps."""
        due = len(batch.pairs) > 0
        if self.params.released and not due:
            return StepTerms({"identity": batch.features.sum() * 0.0}, batch.labels[:0])
        logits, labels = self.taught(batch.features, batch.labels)
        terms = {"identity": identity_loss(logits, labels)}
        if due and self.params.lambda_cosine:
            sides = self.classifier(select_rows(batch.instance, batch.pairs.T.reshape(-1)))
            terms["cosine"] = self._dissimilarity(*sides.chunk(2))
        return StepTerms(terms, labels)

    def _dissimilarity(self, first: Tensor, second: Tensor) -> Tensor:
        """(1 - (S + 1) / 2) / C for logits [E, C] of both sides.

        S is the mean cosine of neighbours. As released it is the mean over splats of a sum over the
        splat itself and its others: 1 and so many times the mean.
        """
        p, q = torch.softmax(first, dim=1), torch.softmax(second, dim=1)
        similarity = F.cosine_similarity(p, q, dim=1).mean()
        if self.params.released:
            similarity = 1.0 + (self.params.cosine_k - 1) * similarity
        return (1.0 - (similarity + 1.0) / 2.0) / first.shape[1]
