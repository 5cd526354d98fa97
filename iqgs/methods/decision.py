# SPDX-License-Identifier: Apache-2.0
"""Decisions in 3D: every splat carries a distribution over ids, and the ray blends these.

Classifiers and queries blend features and decide per pixel, so a pixel between two objects may look
like a third. Here each splat decides first, p_i = softmax(W f_i + b), and a pixel shows id k with
the probability

    P_k(x, y) = sum_i w_i(x, y) p_ik   (Eq. 1 of the probabilities), and P_0 + 1 - alpha for id 0

where id 0 is the background: what was not rendered is no object. 2D and 3D then say the same. The
vote is the same model with one id a splat, counted instead of learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from arguments import option, require_at_least
from gaussian_renderer import Lens
from iqgs.methods.classes import EVEN_PROBABILITY, count_classes, taught
from iqgs.methods.classifier import IdentityClassifier
from iqgs.methods.protocol import Batch, SceneFacts, Segmentation, StepTerms
from iqgs.methods.winners import SOLID_ALPHA, Winners, mean_scores, panoptic_keep
from utils.tensors import select_rows

LEAST_SHARE = 1e-4  # of an id in a pixel: a mask that no splat can answer for costs so much at most
CLASSES_AT_ONCE = 16  # channels of one rendering


@dataclass(frozen=True)
class DecisionParams:
    """Decisions: splats carry distributions over ids, which are blended along the ray."""

    lambda_decision: float = option(1.0, "weight of the likelihood of the masks")
    lambda_reg: float = option(0.3, "weight of equal decisions of neighbouring splats (Eq. 13)")
    reg3d_k: int = option(5, "neighbours of a splat in Eq. 13")
    reg3d_sample_size: int = option(1000, "splats whose neighbours a step compares")

    def __post_init__(self) -> None:
        require_at_least(self, 1, "reg3d_k", "reg3d_sample_size")
        require_at_least(self, 0, "lambda_decision", "lambda_reg")


def build(params: DecisionParams, facts: SceneFacts, generator: torch.Generator) -> Decision:
    """Fresh decisions about the ids of a scene."""
    return Decision(params, facts, generator)


class Decision(IdentityClassifier):
    """A linear classifier of the splats' own attributes, trained through the blended answers."""

    def __init__(
        self, params: DecisionParams, facts: SceneFacts, generator: torch.Generator
    ) -> None:
        super().__init__(count_classes(0, facts), facts, generator)
        self.params = params

    @property
    def weights(self) -> dict[str, float]:
        """Weight of both terms."""
        return {"decision": self.params.lambda_decision, "reg3d": self.params.lambda_reg}

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """The neighbour pairs of Eq. 13."""
        wanted = self.params.reg3d_sample_size if self.params.lambda_reg else 0
        return self.params.reg3d_k, wanted, 1

    def terms(self, batch: Batch) -> StepTerms:
        """Likelihood of the masks, and smoothness of the decisions."""
        index = torch.cat([batch.touched, batch.pairs.T.reshape(-1)])
        decided = torch.softmax(self.classifier(select_rows(batch.instance, index)), dim=1)
        touched, paired = decided.split([len(batch.touched), 2 * len(batch.pairs)])
        keep = taught(batch.labels, self.zero_is_background)
        labels = batch.labels[keep]
        terms = {"decision": self._likelihood(batch, touched, keep)}
        if len(batch.pairs):
            first, second = paired.chunk(2)
            terms["reg3d"] = (first - second).square().sum(dim=1).mean()
        return StepTerms(terms, labels)

    def _likelihood(self, batch: Batch, decided: Tensor, keep: Tensor) -> Tensor:
        """-ln P of the ids that the masks say, mean over pixels `keep` [P], in units of ln C."""
        labels = batch.labels[keep]
        present, own = torch.unique(labels, return_inverse=True)
        if len(present) == 0:
            return decided.sum() * 0.0
        shares = batch.splat(decided[:, present])[keep]  # only of ids that the view shows
        share = shares.gather(1, own[:, None])[:, 0]
        if self.zero_is_background:
            share = share + (1.0 - batch.alpha[keep]) * (labels == 0)
        return -(share + LEAST_SHARE).log().mean() / math.log(decided.shape[1])

    @torch.no_grad()
    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """The id with the largest share of each pixel; 0 where alpha is below a half."""
        numbers = self.seen.nonzero().flatten()
        nothing = torch.zeros_like(lens.alpha[0], dtype=torch.int64)
        if len(numbers) == 0:
            return Segmentation(nothing, {}, self.ids)
        normaliser = self._normaliser(numbers, lens.gaussians.instance)
        winners = self._winners(lens, numbers, normaliser)
        if panoptic:
            keep = panoptic_keep(winners) | (numbers == 0)
            if bool((winners.area[~keep] > 0).any()):
                numbers = numbers[keep]
                if len(numbers) == 0:
                    return Segmentation(nothing, {}, self.ids)
                winners = self._winners(lens, numbers, normaliser)
        labels = numbers[winners.row] * (winners.value > 0)
        scores = mean_scores(labels, winners.value)
        return Segmentation(labels.view_as(nothing), scores, self.ids)

    def _normaliser(self, numbers: Tensor, instance: Tensor) -> Tensor:
        """ln sum exp of the logits of these classes [N, 1], some classes at a time."""
        parts = [
            torch.logsumexp(self._some(some, instance), dim=1, keepdim=True)
            for some in numbers.split(CLASSES_AT_ONCE)
        ]
        return torch.logsumexp(torch.cat(parts, dim=1), dim=1, keepdim=True)

    def _some(self, numbers: Tensor, instance: Tensor) -> Tensor:
        """Logits [N, M] of these classes."""
        weight, bias = self.classifier.weight[numbers], self.classifier.bias[numbers]
        return torch.addmm(bias, instance, weight.T)

    def _winners(self, lens: Lens, numbers: Tensor, normaliser: Tensor) -> Winners:
        """Winners over the classes in all pixels, rendered some classes at a time."""
        alpha = lens.alpha.flatten()
        solid = alpha >= SOLID_ALPHA

        def shares() -> Iterable[Tensor]:
            for some in numbers.split(CLASSES_AT_ONCE):
                decided = (self._some(some, lens.gaussians.instance) - normaliser).exp()
                share = lens.splat(decided).flatten(1)
                if self.zero_is_background:
                    share = share + (1 - alpha) * (some == 0)[:, None]
                yield share * solid

        return winners_of(shares())


def winners_of(shares: Iterable[Tensor]) -> Winners:
    """Argmax over classes whose shares [m, n] come some classes at a time, one part at least."""
    values, rows, owned, first = [], [], [], 0
    for share in shares:
        value, row = share.max(dim=0)
        values.append(value)
        rows.append(row + first)
        owned.append((share > EVEN_PROBABILITY).sum(dim=1))
        first += len(share)
    value, part = torch.stack(values).max(dim=0)
    row = torch.stack(rows).gather(0, part[None])[0]
    area = torch.bincount(row, minlength=first)
    sure = torch.bincount(row[value > EVEN_PROBABILITY], minlength=first)
    return Winners(row, value, area, sure, torch.cat(owned))
