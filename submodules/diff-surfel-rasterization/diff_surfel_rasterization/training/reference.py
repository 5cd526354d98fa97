# SPDX-License-Identifier: Apache-2.0
"""The same in plain torch: any floating type, any device, autograd as their backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
def look_at_reference(
    value: Tensor, mean: Tensor, square: Tensor, last: Tensor, rows: Tensor, *due: Any
) -> Tensor:
    """Values [R, C]; see `look_at_rows`."""
    found = caught_up(value, mean, square, last, rows, *due)
    for whole, part in zip((value, mean, square), found, strict=True):
        whole.index_copy_(0, rows, part)
    last.index_fill_(0, rows, due[2])
    return found[0]


def caught_up(
    value: Tensor, mean: Tensor, square: Tensor, last: Tensor, rows: Tensor, *due: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Values and moments of rows [R] as they are after all steps so far; changes nothing."""
    glide, decay, step = due
    since = last.index_select(0, rows)
    value, mean, square = (tensor.index_select(0, rows) for tensor in (value, mean, square))
    tiny = torch.finfo(value.dtype).tiny  # rows that nobody ever looked at: 0 / sqrt(0)
    owed = glide.to(rows.device)[since].to(value.dtype)[:, None]
    value -= owed * mean / square.sqrt().clamp_min(tiny)
    mean *= decay[0][step - since][:, None]
    square *= decay[1][step - since][:, None]
    return value, mean, square


@torch.no_grad()
def step_reference(
    value: Tensor,
    mean: Tensor,
    square: Tensor,
    last: Tensor,
    rows: Tensor,
    gradient: Tensor,
    numbers: list[float],
    step: int,
) -> None:
    """See `step_rows`."""
    first, second, rate, correction, eps = numbers
    moved = mean.index_select(0, rows).lerp_(gradient, 1 - first)
    squares = square.index_select(0, rows).mul_(second)
    squares.addcmul_(gradient, gradient, value=1 - second)
    mean.index_copy_(0, rows, moved)
    square.index_copy_(0, rows, squares)
    values = value.index_select(0, rows)
    values.addcdiv_(moved, squares.sqrt_().div_(correction).add_(eps), value=-rate)
    value.index_copy_(0, rows, values)
    last.index_fill_(0, rows, step)
