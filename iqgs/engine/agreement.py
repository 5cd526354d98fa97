# SPDX-License-Identifier: Apache-2.0
"""How far what a run itself shows in its training views agrees with the labels of its splats.

With w_s(p) the blending weight of splat s in pixel p (Eq. 1) and m(p) the id that the run's method
shows there, v_s(k) = sum of w_s(p) over the pixels with m(p) = k. Splat s of label l agrees by

    v_s(l) / (v_s(l) + max over k != l of v_s(k)),

the mean of a Beta posterior (B3-Seg counts so) whose counts are the weights for its object and for
the strongest other one, without a prior: splats that few pixels show are as often right as others,
and a prior would call them doubtful. The masks are those that were learned from all views, not
those of the files, whose faults say nothing of a splat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gaussian_renderer import Lens
from iqgs.methods.protocol import Method
from iqgs.methods.vote import VoteSums

MOST_BYTES = 1 << 29  # of the votes that are counted in one pass over the views


@dataclass(frozen=True)
class ShownIds:
    """What the views show of N splats of known labels. Weights are whole numbers as of VoteSums."""

    labels: Tensor  # [N] int64
    winner: Tensor  # [N] int64 the id with most weight; 0 where no view shows the splat
    best: Tensor  # [N] int64 that weight
    second: Tensor  # [N] int64 the most weight of any other id
    own: Tensor  # [N] int64 weight of the label

    @property
    def seen(self) -> Tensor:
        """Which splats [N] bool any view shows."""
        return self.best > 0

    def agreement(self, labels: Tensor) -> Tensor:
        """With labels [N], each of them the counted one or the winner, float32 [N] in 0..1; 0 where
        no view shows the splat, and with any other label.
        """
        won = labels == self.winner
        own = torch.where(won, self.best, torch.where(labels == self.labels, self.own, 0))
        both = own + torch.where(won, self.second, self.best)
        return own.float() / both.clamp_min(1).float()


@torch.no_grad()
def shown_ids(lenses: Callable[[], Iterable[Lens]], method: Method, labels: Tensor) -> ShownIds:
    """Count what a method shows through these lenses of splats with labels [N], in its own ids.

    `lenses` is asked for all of them anew in each pass: some ids are counted at a time.
    """
    maps = [method.segment(lens).label_map.int() for lens in lenses()]
    last = max([int(labels.max()) if len(labels) else 0, *(int(one.max()) for one in maps)])
    width = min(last + 1, max(1, MOST_BYTES // (8 * max(len(labels), 1))))
    nothing = torch.zeros_like(labels)
    found = ShownIds(labels, nothing, nothing, nothing, nothing)
    for first in range(0, last + 1, width):
        sums = VoteSums(len(labels), [width - 1], labels.device)
        for lens, shown in zip(lenses(), maps, strict=True):
            inside = (shown >= first) & (shown < first + width)
            sums.add(lens, [torch.where(inside, shown - first, -1)])
        found = _joined(found, sums.votes(0), first)
    return found


def _joined(found: ShownIds, votes: Tensor, first: int) -> ShownIds:
    """With the votes [N, C] of the ids from `first` on, which are larger than all so far."""
    if votes.shape[1] == 1:
        votes = torch.cat([votes, torch.zeros_like(votes)], dim=1)
    (best, second), (winner, _) = (kind.unbind(1) for kind in votes.topk(2, dim=1))
    better = best > found.best
    place = (found.labels - first).clamp(0, votes.shape[1] - 1)
    own = votes.gather(1, place[:, None])[:, 0] * (place == found.labels - first)
    return ShownIds(
        found.labels,
        torch.where(better, winner + first, found.winner),
        torch.maximum(best, found.best),
        torch.maximum(torch.minimum(best, found.best), torch.maximum(second, found.second)),
        found.own + own,
    )
