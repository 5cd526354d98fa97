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
    own = torch.stack(owned).sum(dim=0)
    return _counted(torch.cat(rows), torch.cat(values), own, threshold)


def winners_by_candidates(
    scores: ScoreChunk, count: int, at_once: int, threshold: float
) -> Winners:
    """The same where `scores(a:b)` are rows, [b - a, n]. The first of equals wins."""
    value = row = torch.empty(0)
    owned = []
    for start in range(0, count, at_once):
        chunk = scores(slice(start, min(start + at_once, count)))
        best, at = chunk.max(dim=0)
        owned.append((chunk > threshold).sum(dim=1))
        if start == 0:
            value, row = best, at
            continue
        better = best > value
        value = torch.where(better, best, value)
        row = torch.where(better, at + start, row)
    return _counted(row, value, torch.cat(owned), threshold)


def _counted(row: Tensor, value: Tensor, own: Tensor, threshold: float) -> Winners:
    """With the columns that each of the M candidates won."""
    area = torch.bincount(row, minlength=len(own))
    sure = torch.bincount(row[value > threshold], minlength=len(own))
    return Winners(row, value, area, sure, own)


def panoptic_keep(winners: Winners) -> Tensor:
    """Candidates [M] that win most of what they claim and at least a few pixels."""
    share = winners.sure / winners.own.clamp_min(1)
    return (share > MIN_WIN_SHARE) & (winners.sure >= MIN_WIN_PIXELS)


def without_dropped(
    winners: Winners, keep: Tensor, again: Callable[[Tensor, Tensor], Winners]
) -> tuple[Tensor, Tensor]:
    """The best of the candidates that are kept [M] bool, for each column: (row [n], value [n]).

    Only columns whose winner is dropped are decided anew, by `again(kept, columns)`, over the rows
    `kept` [K] and these columns [c]. Of none kept nobody wins: row 0, value 0.
    """
    row, value = winners.row, winners.value
    lost = (~keep)[row].nonzero().flatten()
    if len(lost) == 0:
        return row, value
    row, value = row.clone(), value.clone()
    kept = keep.nonzero().flatten()
    if len(kept) == 0:
        return torch.zeros_like(row), torch.zeros_like(value)
    second = again(kept, lost)
    row[lost], value[lost] = kept[second.row], second.value
    return row, value


def mean_scores(labels: Tensor, probability: Tensor) -> dict[int, float]:
    """Mean winning probability of every id > 0 in labels [n]."""
    # On the CPU, where the order of summation is fixed: the same scores on every run.
    labels = labels.cpu()
    count = torch.bincount(labels)
    total = torch.bincount(labels, weights=probability.cpu().double())
    ids = count.nonzero().flatten()
    mean = total[ids] / count[ids]
    return {i: p for i, p in zip(ids.tolist(), mean.tolist(), strict=True) if i > 0}
