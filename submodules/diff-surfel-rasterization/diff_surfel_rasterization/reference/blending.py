# SPDX-License-Identifier: Apache-2.0
"""Per-pixel part of the reference: compositing of P pixels with n splats.

Everything is dense [P, n] and front to back along the last axis; autograd is the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..constants import (
    MAX_ALPHA,
    MEDIAN_TRANSMITTANCE,
    STOP_TRANSMITTANCE,
    SUPPORT_ALPHA,
)
from .projection import BlendOptions, Meet

# Columns that follow the values in the result of `composite`.
MAP_COLUMNS = ("alpha", "depth", "median", "distortion")


@dataclass(frozen=True)
class Blended:
    """Contributions of n depth-sorted splats to P pixels, [P, n]; zero weight = none."""

    weight: Tensor
    before: Tensor  # transmittance in front of the splat
    depth: Tensor
    after: Tensor  # [P] transmittance behind the last splat


class _Weigh(torch.autograd.Function):
    """weight [P, n] times values [n, V]. The gradient of a pixel reaches its contributors alone,
    even where it is no number: 0 times that is not 0."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(weight, values)
        return weight @ values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weight, values = ctx.saved_tensors
        contributes = weight > 0
        finite = torch.isfinite(gradient).all(dim=1, keepdim=True)
        by_value = weight.T @ torch.where(finite, gradient, 0.0)
        if not bool(finite.all()):
            pixel, splat = (contributes & ~finite).nonzero(as_tuple=True)
            lit = weight[pixel, splat, None] * gradient[pixel]
            by_value = by_value.index_add(0, splat, lit)
        return torch.where(contributes, gradient @ values.T, 0.0), by_value


def blend(geometry: Tensor, pixels: Tensor, meet: Meet, options: BlendOptions) -> Blended:
    """Front-to-back weights w = alpha T of depth-sorted splats (Eq. 1)."""
    rho, depth, hit = meet(geometry[:, 1:], pixels, options)
    opacity = geometry[:, 0]
    alpha = (opacity * torch.exp(-0.5 * rho)).clamp_max(MAX_ALPHA)
    alpha = torch.where(hit & (alpha >= SUPPORT_ALPHA), alpha, torch.zeros_like(alpha))
    # T never grows, so the test on the uninterrupted product finds the first stop and all after.
    going = torch.cumprod(1.0 - alpha.detach(), dim=1) >= STOP_TRANSMITTANCE
    alpha = torch.where(going, alpha, torch.zeros_like(alpha))
    start = torch.ones_like(pixels[:, :1])
    passed = torch.cat([start, torch.cumprod(1.0 - alpha, dim=1)], dim=1)
    before = passed[:, :-1]
    weight = alpha * before
    depth = torch.where(weight > 0, depth, 1.0)  # else nobody asks, nor may a gradient come
    return Blended(weight=weight, before=before, depth=depth, after=passed[:, -1])


def composite(
    geometry: Tensor, values: Tensor, pixels: Tensor, meet: Meet, options: BlendOptions
) -> Tensor:
    """Images [P, V + 4] of n splats with values [n, V]: the values, then MAP_COLUMNS.

    No gradient comes in from pixels without a contribution: that of a renderer which divides by
    alpha is no number there.
    """
    blended = blend(geometry, pixels, meet, options)
    weight, depth = blended.weight, blended.depth
    maps = [
        1.0 - blended.after,
        (weight * depth).sum(dim=1),
        _median_depth(blended),
        _distortion(weight, depth, options),
    ]
    weighed: Tensor = _Weigh.apply(weight, values)
    image = torch.cat([weighed, torch.stack(maps, dim=1)], dim=1)
    return torch.where((weight > 0).any(dim=1, keepdim=True), image, image.detach())


def _median_depth(blended: Blended) -> Tensor:
    """Depth [P] of the last contributing splat reached while T > 0.5, zero if there is none."""
    reached = (blended.weight > 0) & (blended.before > MEDIAN_TRANSMITTANCE)
    order = torch.arange(1, reached.shape[1] + 1, device=reached.device)
    nothing = torch.zeros_like(blended.after)[:, None]
    last = torch.cat([nothing.long(), reached * order], dim=1).amax(dim=1, keepdim=True)
    return torch.cat([nothing, blended.depth], dim=1).gather(1, last)[:, 0]


def _distortion(weight: Tensor, depth: Tensor, options: BlendOptions) -> Tensor:
    """Sum over pairs of w_i w_j (m_i - m_j)^2 with m the depth in normalised device coordinates."""
    mapped = options.far / (options.far - options.near) * (1.0 - options.near / depth)
    first = weight * mapped
    second = first * mapped
    zero, one, two = (torch.cumsum(x, dim=1) - x for x in (weight, first, second))
    return (weight * (mapped * mapped * zero + two - 2.0 * mapped * one)).sum(dim=1)
