# SPDX-License-Identifier: Apache-2.0
"""The same of the compiled library, on the device of the tensors; float32 only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..operators import operators, stream_of
from .records import AdamRows, AdamStep, CatchUp


class _Activate(torch.autograd.Function):
    """Scales, opacities and coefficients; first derivatives only."""

    @staticmethod
    def forward(
        ctx: Any,
        log_scales: Tensor,
        opacity_logits: Tensor,
        sh_dc: Tensor,
        sh_rest: Tensor,
        used: int,
    ) -> tuple[Tensor, ...]:
        scales, opacities, sh = operators().activate_splats(
            log_scales, opacity_logits, sh_dc, sh_rest, used, stream_of(log_scales)
        )
        ctx.save_for_backward(scales, opacities)
        ctx.rest = sh_rest.shape[1]
        return scales, opacities, sh

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scales, opacities = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:4]
        found = operators().activate_splats_backward(
            scales, opacities, gradients, ctx.rest, [int(w) for w in wanted], stream_of(scales)
        )
        return (*(g if w else None for g, w in zip(found, wanted, strict=True)), None)


def activate_native(
    log_scales: Tensor, opacity_logits: Tensor, sh_dc: Tensor, sh_rest: Tensor, used: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales, opacities, coefficients; see `activate_splats`."""
    scales, opacities, sh = _Activate.apply(log_scales, opacity_logits, sh_dc, sh_rest, used)
    return scales, opacities, sh


@torch.no_grad()
def add_signal_native(total: Tensor, seen: Tensor, radii: Tensor, signal: Tensor) -> None:
    """See `add_screen_signal`."""
    operators().add_screen_signal(total, seen, radii, signal, stream_of(total))


@torch.no_grad()
def look_at_native(state: AdamRows, rows: Tensor, due: CatchUp) -> Tensor:
    """Values [R, C]; see `look_at_rows`."""
    found: Tensor = operators().look_at_rows(*state, rows, *due, stream_of(rows))
    return found


@torch.no_grad()
def step_native(state: AdamRows, rows: Tensor, gradient: Tensor, step: AdamStep) -> None:
    """See `step_rows`."""
    operators().step_rows(*state, rows, gradient, step.numbers, step.step, stream_of(rows))
