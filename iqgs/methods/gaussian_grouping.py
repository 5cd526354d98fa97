# SPDX-License-Identifier: Apache-2.0
"""Gaussian Grouping (Ye et al., ECCV 2024): ids are classes of the rendered identity encoding.

Written from the paper's equations. Where its released program does otherwise, both are settings,
and the presets say which: `paper` is what was released, with 30 000 steps and its rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arguments import option, require_at_least
from iqgs.methods.classes import count_classes, identity_loss
from iqgs.methods.classifier import IdentityClassifier
from iqgs.methods.protocol import Batch, SceneFacts, StepTerms
from utils.tensors import select_rows


@dataclass(frozen=True)
class GroupingParams:
    """Gaussian Grouping: a linear classifier of the rendered attribute."""

    classes: int = option(0, "classes of the classifier; 0: one an id, and one for id 0")
    lambda_identity: float = option(1.0, "weight of the cross-entropy over ids")
    lambda_kl: float = option(2.0, "weight of the divergence between neighbouring splats")
    kl_over_classes: bool = option(True, "divide it by the classes (released; the paper does not)")
    kl_counts_self: bool = option(True, "a splat is its own first neighbour (released)")
    kl_k: int = option(5, "neighbours of a splat")
    kl_sample_size: int = option(1000, "splats whose neighbours a step compares")
    kl_interval: int = option(5, "steps between such comparisons")

    def __post_init__(self) -> None:
        require_at_least(self, 1, "kl_k", "kl_sample_size", "kl_interval")
        require_at_least(self, 0, "classes", "lambda_identity", "lambda_kl")

    @property
    def true_neighbors(self) -> int:
        """Neighbours of a splat beside itself."""
        return self.kl_k - 1 if self.kl_counts_self else self.kl_k

    @property
    def kl_scale(self) -> float:
        """What the mean over true neighbours is multiplied with: a splat is at distance 0 from
        itself."""
        return self.true_neighbors / self.kl_k


def build(
    params: GroupingParams, facts: SceneFacts, generator: torch.Generator
) -> GaussianGrouping:
    """A fresh classifier for the ids of a scene. UserError."""
    return GaussianGrouping(params, count_classes(params.classes, facts), facts, generator)


class GaussianGrouping(IdentityClassifier):
    """Cross-entropy over ids in 2D, and neighbours in 3D that should be of one class."""

    def __init__(
        self, params: GroupingParams, classes: int, facts: SceneFacts, generator: torch.Generator
    ) -> None:
        super().__init__(classes, facts, generator)
        self.params = params

    @property
    def weights(self) -> dict[str, float]:
        """Weight of both terms."""
        return {"identity": self.params.lambda_identity, "kl": self.params.lambda_kl}

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """The neighbours that the divergence compares."""
        wanted = self.params.kl_sample_size if self.params.lambda_kl else 0
        return self.params.true_neighbors, wanted, self.params.kl_interval

    def terms(self, batch: Batch) -> StepTerms:
        """Both terms of one step; the divergence only in steps that have pairs."""
        logits, labels = self.taught(batch.features, batch.labels)
        terms = {"identity": identity_loss(logits, labels)}
        if len(batch.pairs):
            sides = self.classifier(select_rows(batch.instance, batch.pairs.T.reshape(-1)))
            terms["kl"] = self.params.kl_scale * mean_divergence(*sides.chunk(2))
            if self.params.kl_over_classes:
                terms["kl"] = terms["kl"] / sides.shape[1]
        return StepTerms(terms, labels)


def mean_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Mean over E pairs of KL(p || q), p and q the softmax of logits [E, C] of both sides.

        KL = sum_c p_c (ln p_c - ln q_c)

    The gradient goes to both sides.
    """
    p, q = torch.log_softmax(first, dim=1), torch.log_softmax(second, dim=1)
    return (p.exp() * (p - q)).sum(dim=1).mean()
