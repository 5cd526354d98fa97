# SPDX-License-Identifier: Apache-2.0
"""The same in plain torch: any floating type, any device, autograd as their backward."""

from __future__ import annotations

import torch
from torch import Tensor

from .records import AdamRows, AdamStep, CatchUp


def activate_reference(
    log_scales: Tensor, opacity_logits: Tensor, sh_dc: Tensor, sh_rest: Tensor, used: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales, opacities, coefficients; see `activate_splats`."""
    sh = torch.cat([sh_dc, sh_rest[:, : used - 1]], dim=1)
    return log_scales.exp(), opacity_logits.sigmoid(), sh


def add_signal_reference(total: Tensor, seen: Tensor, radii: Tensor, signal: Tensor) -> None:
    """See `add_screen_signal`."""
    visible = radii > 0
    total += torch.where(visible, signal[:, :2].norm(dim=-1), 0.0)
    seen += visible


@torch.no_grad()
def look_at_reference(state: AdamRows, rows: Tensor, due: CatchUp) -> Tensor:
    """Values [R, C]; see `look_at_rows`."""
    since = state.last.index_select(0, rows)
    value, mean, square = (tensor.index_select(0, rows) for tensor in state[:3])
    tiny = torch.finfo(value.dtype).tiny  # rows that nobody ever looked at: 0 / sqrt(0)
    owed = due.glide[since].to(value.dtype)[:, None]
    value -= owed * mean / square.sqrt().clamp_min(tiny)
    mean *= due.decay[0][due.step - since][:, None]
    square *= due.decay[1][due.step - since][:, None]
    for whole, part in zip(state[:3], (value, mean, square), strict=True):
        whole.index_copy_(0, rows, part)
    state.last.index_fill_(0, rows, due.step)
    return value


@torch.no_grad()
def step_reference(state: AdamRows, rows: Tensor, gradient: Tensor, step: AdamStep) -> None:
    """See `step_rows`."""
    first, second = step.betas
    mean = state.mean.index_select(0, rows).lerp_(gradient, 1 - first)
    square = state.square.index_select(0, rows).mul_(second)
    square.addcmul_(gradient, gradient, value=1 - second)
    state.mean.index_copy_(0, rows, mean)
    state.square.index_copy_(0, rows, square)
    value = state.value.index_select(0, rows)
    value.addcdiv_(mean, square.sqrt_().div_(step.correction).add_(step.eps), value=-step.rate)
    state.value.index_copy_(0, rows, value)
    state.last.index_fill_(0, rows, step.step)
