# SPDX-License-Identifier: Apache-2.0
"""What Adam over chosen rows is told."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class AdamRows(NamedTuple):
    """A parameter and what Adam keeps of it; changed in place."""

    value: Tensor  # [N, C] floating, contiguous, without requires_grad
    mean: Tensor  # [N, C] of the gradients
    square: Tensor  # [N, C] mean of their squares
    last: Tensor  # [N] int64, the step in which each row was last up to date


class CatchUp(NamedTuple):
    """What rows that rested have to catch up after `step` steps."""

    glide: Tensor  # [step + 1] float64: of a row last up to date in step t, in mean / root(square)
    decay: Tensor  # [2, more than step] of the parameter's type: powers 0, 1, .. of the two betas
    step: int


class AdamStep(NamedTuple):
    """The numbers of one step of Adam."""

    betas: tuple[float, float]
    rate: float  # over 1 - beta1^step
    correction: float  # root of 1 - beta2^step
    eps: float
    step: int  # its number, from 1

    @property
    def numbers(self) -> list[float]:
        """All but the last, in order."""
        return [*self.betas, self.rate, self.correction, self.eps]
