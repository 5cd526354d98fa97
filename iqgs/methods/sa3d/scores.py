# SPDX-License-Identifier: Apache-2.0
"""The scores of splats, one row for each object: rendered, moved against a mask, compared.

N splats, M objects, C of them at a time, P pixels of a view.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, splat_weights

BETAS, EPS = (0.9, 0.999), 1e-15  # of Adam
SAME_OBJECT = 0.5  # IoU of the splats of two objects above which they are one


class ObjectScores:
    """Scores of M objects with their moments; each object has taken its own number of steps."""

    NAMES = ("score", "mean", "square", "out", "steps")

    def __init__(self, n_splats: int, device: torch.device) -> None:
        self.score = torch.zeros(0, n_splats, device=device)
        self.mean = torch.zeros_like(self.score)
        self.square = torch.zeros_like(self.score)
        self.out = torch.zeros(0, n_splats, dtype=torch.bool, device=device)  # for good
        self.steps = torch.zeros(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, count: int) -> Tensor:
        """So many new objects without any splat; returns their rows."""
        first = len(self)
        for name in self.NAMES:
            old = getattr(self, name)
            setattr(self, name, torch.cat([old, old.new_zeros(count, *old.shape[1:])]))
        return torch.arange(first, len(self), device=self.steps.device)

    def render(self, weights: BlendWeights, rows: Tensor) -> Tensor:
        """Rendered scores [C, P] of objects `rows`: sum of w m over splats that are not out."""
        values = self.score[rows].masked_fill(self.out[rows], 0.0)
        return splat_weights(weights, None, values.T.contiguous()).T

    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """One step of Adam for objects `rows` against their gradients [C, N]."""
        first, second = BETAS
        self.steps[rows] += 1
        count = self.steps[rows].double()[:, None]  # in float32 1 - 0.999 is five digits long
        bias, bias_square = ((1 - beta**count).to(gradient.dtype) for beta in BETAS)
        mean = self.mean[rows].lerp(gradient, 1 - first)
        square = self.square[rows].lerp(gradient.square(), 1 - second)
        self.mean[rows], self.square[rows] = mean, square
        root = (square / bias_square).sqrt() + EPS
        moved = self.score[rows] - rate * mean / bias / root
        self.score[rows] = torch.where(self.out[rows], self.score[rows], moved)

    def drop_doubtful(self) -> None:
        """From now on splats without a positive score are no part of an object."""
        self.out |= self.score <= 0

    def different(self) -> Tensor:
        """Objects [K] int64, each with splats, without those that share most of them with an
        earlier one."""
        has = (self.score > 0).float()
        shared = has @ has.T
        size = shared.diagonal()
        same = shared / (size[:, None] + size - shared).clamp_min(1) > SAME_OBJECT
        kept: list[int] = []
        for row in (size > 0).nonzero().flatten().tolist():
            if not bool(same[row, kept].any()):
                kept.append(row)
        return torch.tensor(kept, dtype=torch.int64, device=has.device)

    def owners(self) -> tuple[Tensor, Tensor]:
        """Label [N] of each splat, 1.. for `different` objects in turn, and its share [N] of all
        positive scores of the splat.

        0 with share 1: every object that saw the splat turned it down; with share 0: none saw it.
        """
        rows = self.different()
        seen = (self.square > 0).any(dim=0)
        if len(rows) == 0:
            return torch.zeros(len(seen), dtype=torch.int64, device=seen.device), seen.float()
        positive = self.score[rows].clamp_min(0)
        best, place = positive.max(dim=0)
        total = positive.sum(dim=0).clamp_min(torch.finfo(best.dtype).tiny)
        share = torch.where(best > 0, best / total, seen.float())
        return torch.where(best > 0, place + 1, 0), share

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {name: getattr(self, name) for name in self.NAMES}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device) -> ObjectScores:
        """What `state_dict` gave."""
        scores = cls(state["score"].shape[1], device)
        for name in cls.NAMES:
            setattr(scores, name, state[name].to(device))
        return scores


def score_gradient(weights: BlendWeights, wanted: Tensor, known: Tensor, outside: float) -> Tensor:
    """Gradient [C, N] of -sum S M + outside * sum (1 - S) M in the scores, M = sum of w m.

    wanted: S [C, P] bool; known [P] bool: the pixels that count.
    """
    pull = torch.where(wanted, -1.0, outside) * known
    values = torch.zeros(weights.n_splats, len(wanted), device=wanted.device, requires_grad=True)
    with torch.enable_grad():
        rendered = splat_weights(weights, None, values)
    (gradient,) = torch.autograd.grad(rendered, values, pull.T.contiguous())
    return gradient.T
