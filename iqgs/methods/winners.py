# SPDX-License-Identifier: Apache-2.0
"""Which candidate wins each pixel or splat: argmax in chunks, and the panoptic filter.

A candidate is a query or a voted id. Scores are made chunk by chunk by the caller's function, so
that nothing of size candidates x pixels exists at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 20  # scores at a time: 4 MB, which stays in the cache
MIN_WIN_SHARE = 0.6  # METHOD: removes queries whose mask mostly lies under another's
MIN_WIN_PIXELS = 4  # fewer pixels are slivers
SOLID_ALPHA = 0.5  # below it a pixel shows more of what lies behind the splats

ScoreChunk = Callable[[slice], Tensor]  # columns a:b -> scores [M, b - a]


@dataclass(frozen=True)
class Winners:
    """The best candidate of each of n columns, and statistics of the M candidates."""

    row: Tensor  # [n] int64
    value: Tensor  # [n] its score
    area: Tensor  # [M] columns won
    sure: Tensor  # [M] columns won with a score above the threshold
    own: Tensor  # [M] columns with a score above the threshold


def find_winners(scores: ScoreChunk, count: int, columns: int, threshold: float) -> Winners:
    """Argmax over `count` >= 1 candidates for each column."""
    step = max(1, CHUNK_ELEMENTS // count)
    rows, values, owned = [], [], []
    for start in range(0, columns, step):
        chunk = scores(slice(start, min(start + step, columns)))
        value, row = chunk.max(dim=0)
        rows.append(row)
        values.append(value)
        owned.append((chunk > threshold).sum(dim=1))
    row, value = torch.cat(rows), torch.cat(values)
    area = torch.bincount(row, minlength=count)
    sure = torch.bincount(row[value > threshold], minlength=count)
    return Winners(row, value, area, sure, torch.stack(owned).sum(dim=0))


def panoptic_keep(winners: Winners) -> Tensor:
    """Candidates [M] that win most of what they claim and at least a few pixels."""
    share = winners.sure / winners.own.clamp_min(1)
    return (share > MIN_WIN_SHARE) & (winners.sure >= MIN_WIN_PIXELS)


def mean_scores(labels: Tensor, probability: Tensor) -> dict[int, float]:
    """Mean winning probability of every id > 0 in labels [n]."""
    # On the CPU, where the order of summation is fixed: the same scores on every run.
    ids, inverse = torch.unique(labels.cpu(), return_inverse=True)
    total = torch.bincount(inverse, weights=probability.cpu().double())
    mean = total / torch.bincount(inverse)
    return {i: p for i, p in zip(ids.tolist(), mean.tolist(), strict=True) if i > 0}
