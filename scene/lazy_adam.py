# SPDX-License-Identifier: Apache-2.0
"""Adam over the rows of one large parameter, at the cost of the rows that a step looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diff_surfel_rasterization.training import (
    AdamRows,
    AdamStep,
    CatchUp,
    look_at_rows,
    step_rows,
)

WINDOW = 512  # steps after which a resting row has stopped: 0.9^512 is 4e-24
BETAS = (0.9, 0.999)


class LazyAdam:
    """`torch.optim.Adam` with rows that are brought up to date only when somebody looks at them.

    A row without gradient goes on moving on its momentum m: j steps later by
    rate_j / (1 - b1^j) * b1^j m / (sqrt(b2^j v) / sqrt(1 - b2^j)). That is m / sqrt(v) times a sum
    that depends on nothing but the step in which the row was last up to date, so all rows share
    one table of these sums, `glide`. The result is Adam's to rounding (its eps is taken as 0 for
    rows that rest), while a step costs what its rows cost.
    """

    def __init__(self, parameter: nn.Parameter, eps: float) -> None:
        """`parameter` [N, C]; moments start at zero."""
        self.parameter = parameter
        self.eps = eps
        self.steps = 0
        self.mean = torch.zeros_like(parameter, requires_grad=False)
        self.square = torch.zeros_like(parameter, requires_grad=False)
        # Step in which each row was last up to date.
        self.last = torch.zeros(len(parameter), dtype=torch.int64, device=parameter.device)
        # glide[t]: what a row that was up to date in step t has to catch up, in m / sqrt(v).
        self.glide = torch.zeros(1, dtype=torch.float64)
        # Powers of the betas up to more than the steps so far.
        self._decay = torch.ones(2, 1, dtype=parameter.dtype, device=parameter.device)

    @property
    def _rows(self) -> AdamRows:
        return AdamRows(self.parameter.detach(), self.mean, self.square, self.last)

    @property
    def _due(self) -> CatchUp:
        """What resting rows have to catch up by now."""
        if self._decay.shape[1] <= self.steps:
            powers = torch.arange(2 * self.steps + 1, dtype=self.parameter.dtype)
            decay = torch.stack([torch.pow(beta, powers) for beta in BETAS])
            self._decay = decay.to(self.parameter.device)
        return CatchUp(self.glide.to(self.parameter.device), self._decay, self.steps)

    def look_at(self, rows: Tensor) -> Tensor:
        """Bring rows [R] int64 (each once) up to date; returns a copy of their values [R, C]."""
        return look_at_rows(self._rows, rows, self._due)

    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """One step: rows [R], which have been looked at since the last, have gradient [R, C]."""
        first, second = BETAS
        self.steps += 1
        scale, root = 1 - first**self.steps, math.sqrt(1 - second**self.steps)
        self._let_others_glide(rate * (root / scale))
        numbers = AdamStep(BETAS, rate / scale, root, self.eps, self.steps)
        step_rows(self._rows, rows, gradient, numbers)

    def _let_others_glide(self, rate: float) -> None:
        """Enter a step of this bias-corrected rate into the sums of all rows that rest in it."""
        first, second = BETAS
        self.glide = torch.cat([self.glide, self.glide.new_zeros(1)])
        oldest = max(0, self.steps - WINDOW)
        waited = torch.arange(self.steps - oldest, 0, -1, dtype=torch.float64)
        self.glide[oldest : self.steps] += rate * (first / math.sqrt(second)) ** waited

    @torch.no_grad()
    def current(self) -> Tensor:
        """A copy of all rows, up to date; changes nothing."""
        everything = torch.arange(len(self.parameter), device=self.last.device)
        copies = AdamRows(*(tensor.clone() for tensor in self._rows))
        return look_at_rows(copies, everything, self._due)

    def state_dict(self) -> dict[str, Any]:
        """Moments, and what each row has to catch up."""
        names = ("steps", "mean", "square", "last", "glide")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. ValueError for moments of other rows."""
        if state["mean"].shape != self.mean.shape:
            found, wanted = list(state["mean"].shape), list(self.mean.shape)
            raise ValueError(f"expected moments {wanted}, got {found}")
        self.steps = int(state["steps"])
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        self.last.copy_(state["last"])
        self.glide = state["glide"].cpu().clone()
