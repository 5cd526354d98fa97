# SPDX-License-Identifier: Apache-2.0
"""Methods that give every id a class and score pixels by a softmax: what they have in common.

Class i is compact id i; class 0 is the zero label, which under `--zero_label ignore` is never
taught and so never wins. C classes, P pixels, n columns (pixels or splats).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaussian_renderer import Lens
from iqgs.methods.protocol import IdKind, SceneFacts, Segmentation
from iqgs.methods.winners import (
    SOLID_ALPHA,
    ScoreChunk,
    Winners,
    find_winners,
    mean_scores,
    panoptic_keep,
)
from utils.errors import UserError

NO_CLASS = -1  # of pixels that say nothing about classes
EVEN_PROBABILITY = 0.5  # a class surely owns what it has with more than half of the probability


class LinearClassifier(nn.Module):
    """Logits W x + b of C classes: a convolution of one pixel over an image of encodings."""

    def __init__(self, dim: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(dim)
        weight = torch.empty(classes, dim).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(classes).uniform_(-bound, bound, generator=generator)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, values: Tensor) -> Tensor:
        """Encodings [..., D] -> logits [..., C]."""
        return F.linear(values, self.weight, self.bias)

    def scores(self, numbers: Tensor, columns: Tensor) -> ScoreChunk:
        """Logits of some classes [M] for parts of the encodings [D, n]."""
        weight, bias = self.weight[numbers], self.bias[numbers]
        return lambda part: torch.addmm(bias[:, None], weight, columns[:, part])


def count_classes(wanted: int, facts: SceneFacts) -> int:
    """One class for each id and one for 0, or as many as are wanted. UserError for too few."""
    least = facts.num_ids + 1
    if wanted and wanted < least:
        raise UserError(
            f"--classes {wanted} is too small: the masks have {facts.num_ids} ids after remapping, "
            f"so pass --classes {least} or more, or 0."
        )
    return wanted or least


def taught(labels: Tensor, zero_is_background: bool) -> Tensor:
    """The pixels [P] bool that say something about classes."""
    return labels >= 0 if zero_is_background else labels > 0


def identity_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [P, C] and classes [P], mean over pixels, in units of ln C.

    That is 1 for a classifier that guesses evenly. 0 where there are no pixels.
    """
    if len(labels) == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(logits, labels) / math.log(logits.shape[1])


def decide(
    numbers: Tensor, logits: ScoreChunk, solid: Tensor, panoptic: bool
) -> tuple[Tensor, Tensor]:
    """The most probable class of each column, 0 where the column is not `solid` [n] bool.

    `logits` gives [M, n'] scores of the M classes `numbers`; the softmax is over these. With
    `panoptic` a class stays only if it wins a few columns with more than half of the probability;
    what the others had won is shared out among those that stay. -> numbers [n], probabilities [n]
    """
    if len(numbers) == 0 or len(solid) == 0:
        return torch.zeros_like(solid, dtype=torch.int64), torch.zeros(solid.shape).to(solid.device)
    kept = torch.arange(len(numbers), device=numbers.device)
    winners = _softmax_winners(logits, kept, solid)
    if panoptic:
        keep = panoptic_keep(winners) | (numbers == 0)  # the background is no claim
        if bool((winners.area[~keep] > 0).any()):
            kept = keep.nonzero().flatten()
            if len(kept) == 0:
                return torch.zeros_like(winners.row), torch.zeros_like(winners.value)
            winners = _softmax_winners(logits, kept, solid)
    found = numbers[kept[winners.row]]
    return torch.where(solid, found, torch.zeros_like(found)), winners.value


def _softmax_winners(logits: ScoreChunk, kept: Tensor, solid: Tensor) -> Winners:
    def probabilities(part: slice) -> Tensor:
        return torch.softmax(logits(part)[kept], dim=0) * solid[part]

    return find_winners(probabilities, len(kept), len(solid), EVEN_PROBABILITY)


def segment_by_softmax(
    lens: Lens, numbers: Tensor, logits: ScoreChunk, panoptic: bool, ids: IdKind
) -> Segmentation:
    """Instances of a view from logits of its pixels; 0 where alpha is below a half."""
    alpha = lens.alpha
    labels, sure = decide(numbers, logits, alpha.flatten() >= SOLID_ALPHA, panoptic)
    return Segmentation(labels.view(alpha.shape[-2:]), mean_scores(labels, sure), ids)
