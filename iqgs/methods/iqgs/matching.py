# SPDX-License-Identifier: Apache-2.0
"""Which query is responsible for which object of a view: by id (Eq. 8) or by cost (Eq. 9-10).

Query 0 stands for "no instance". Under the background rule it owns id 0 in both matchers; under the
ignore rule it owns nothing, is never supervised, and so never wins a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from iqgs.methods.iqgs.losses import pairwise_dice, pairwise_focal
from iqgs.methods.iqgs.params import HungarianParams
from utils.errors import NotFiniteError, UserError

# Logits [S, P'] of the candidate queries at chosen ones of the P labelled pixels; None: all.
Logits = Callable[[Tensor | None], Tensor]


@dataclass(frozen=True)
class Matching:
    """Which query owns which object in one view; M pairs, sorted by id."""

    query: Tensor  # [M] int64 query numbers
    target: Tensor  # [M] int64 ids present in the view


class IDMatcher:
    """Query i owns the object with compact id i (Eq. 8)."""

    steady = False

    def __init__(self, num_queries: int, num_ids: int, background: bool) -> None:
        if num_ids + 1 > num_queries:
            raise UserError(
                f"--num_queries {num_queries} is too small: the masks have {num_ids} ids after "
                f"remapping, so pass --num_queries {num_ids + 1} or more."
            )
        self.num_ids = num_ids
        self.background = background
        self.first = 0 if background else 1
        self.stop = num_ids + 1  # queries first..stop-1 are supervised: the known ids

    def __call__(self, labels: Tensor, logits: Logits, usage: Tensor) -> Matching:
        """Labels [P] of the supervised pixels -> the ids that occur, each with its own query."""
        ids = torch.unique(labels)
        if ids.numel() and int(ids[-1]) > self.num_ids:
            raise UserError(
                f"a mask holds compact id {int(ids[-1])} but this run knows {self.num_ids} ids; "
                "train with the masks that the run was started with."
            )
        return Matching(query=ids, target=ids)


@dataclass(frozen=True)
class MatchingCost:
    """The weights and options of Eq. 9; the same as those of the losses."""

    mask: float
    dice: float
    gamma: float
    alpha: float | None

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Cost of every query [Q, P] on every object [T, P] -> [Q, T] (Eq. 9)."""
        focal = pairwise_focal(logits, masks, self.gamma, self.alpha)
        return self.mask * focal + self.dice * pairwise_dice(logits, masks)


class HungarianMatcher:
    """The assignment of least total cost, anew in each view (Eq. 10); id 0 is pinned to query 0."""

    def __init__(
        self, num_queries: int, background: bool, cost: MatchingCost, params: HungarianParams
    ) -> None:
        self.num_queries = num_queries
        self.background = background
        self.first = 0 if background else 1
        self.stop = num_queries
        self.cost = cost
        self.steady = params.steady_matching
        self.usage_cost = params.usage_cost
        self.pixels = params.matching_pixels

    @torch.no_grad()
    def __call__(self, labels: Tensor, logits: Logits, usage: Tensor) -> Matching:
        """Labels [P], logits of queries first..stop-1 -> one query for each id that occurs.

        `usage` [Q] in 0..1, how often each query was matched lately, times `usage_cost` is added
        to the cost: an object that no query knows yet goes to a query that owns nothing, instead
        of one whose own object this view happens not to show.
        Raises UserError when the view shows more objects than there are queries for objects.
        """
        chosen = matching_sample(labels, self.pixels)
        labels = labels if chosen is None else labels[chosen]
        ids = torch.unique(labels)
        objects = ids[ids > 0]
        if objects.numel() > self.num_queries - 1:
            raise UserError(
                f"--num_queries {self.num_queries} is too small: a view shows {objects.numel()} "
                f"objects, so pass --num_queries {objects.numel() + 1} or more (about twice that)."
            )
        candidates = logits(chosen)[1 - self.first :]  # queries 1..Q-1
        cost = self.cost(candidates, labels[None, :] == objects[:, None])
        cost = cost + self.usage_cost * usage[1:, None]
        if not bool(torch.isfinite(cost).all()):
            raise NotFiniteError("the scores of the queries are not finite")
        from scipy.optimize import linear_sum_assignment  # slow to import, for this matcher only

        rows, columns = linear_sum_assignment(cost.T.cpu().numpy())  # object -> query, id order
        query = torch.as_tensor(columns, device=labels.device, dtype=torch.int64) + 1
        target = objects[torch.as_tensor(rows, device=labels.device, dtype=torch.int64)]
        if self.background and ids.numel() and int(ids[0]) == 0:
            zero = torch.zeros_like(ids[:1])
            query, target = torch.cat([zero, query]), torch.cat([zero, target])
        return Matching(query=query, target=target)


def matching_sample(labels: Tensor, most: int) -> Tensor | None:
    """Pixels [S] int64 of a view that the matching looks at; None: all of its labels [P].

    Every n-th pixel, and all pixels of the ids that these miss: they are small. S is little more
    than `most`.
    """
    if len(labels) <= most:
        return None
    stride = -(-len(labels) // most)
    chosen = torch.arange(0, len(labels), stride, device=labels.device)
    missed = ~torch.isin(labels, labels[chosen])
    return torch.cat([chosen, missed.nonzero().flatten()])


def owners(matching: Matching, labels: Tensor) -> Tensor:
    """The query that owns each pixel: labels [P], all of them matched -> [P] query numbers."""
    if matching.target.numel() == 0:
        return labels
    return matching.query[torch.searchsorted(matching.target, labels)]
