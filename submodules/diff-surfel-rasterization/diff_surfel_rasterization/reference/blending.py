# SPDX-License-Identifier: Apache-2.0
"""Per-pixel part of the reference: own intersection and compositing of P pixels with n splats.

Everything is dense [P, n] and front to back along the last axis; autograd is the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..constants import (
    LOW_PASS_PRECISION,
    MAX_ALPHA,
    MEDIAN_TRANSMITTANCE,
    PARALLEL_RATIO,
    STOP_TRANSMITTANCE,
    SUPPORT_ALPHA,
)

# Columns of the geometry table: M_x, M_y relative to the centre, M_w, centre, anchor - centre,
# opacity, signed carriers, absolute carriers.
GEOMETRY_COLUMNS = (3, 3, 3, 2, 2, 1, 2, 2)
# Columns that follow the values in the result of `composite`.
MAP_COLUMNS = ("alpha", "depth", "median", "distortion")


@dataclass(frozen=True)
class BlendOptions:
    """What the compositing needs to know beside the splats."""

    near: float
    far: float
    center_depth: bool  # depth of the centre where the low-pass disc wins
    carriers: bool  # screen-space gradients are wanted


@dataclass(frozen=True)
class Blended:
    """Contributions of n depth-sorted splats to P pixels, [P, n]; zero weight = none."""

    weight: Tensor
    before: Tensor  # transmittance in front of the splat
    depth: Tensor
    after: Tensor  # [P] transmittance behind the last splat


class _ExpandSummingMagnitudes(torch.autograd.Function):
    """Expand [n] to [P, n]; the gradient is the sum of absolute values, not of values."""

    @staticmethod
    def forward(ctx: object, row: Tensor, pixels: int) -> Tensor:
        return row.expand(pixels, -1).clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.abs().sum(dim=0), None


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


def intersect(
    geometry: Tensor, pixels: Tensor, options: BlendOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """(rho, depth, hit), each [P, n]: squared distance in standard deviations (Eq. 11), camera
    depth, and whether pixel and splat meet at all beyond the near plane.

    The ray of a pixel is the intersection of the planes k = x M_w - M_x and l = y M_w - M_y;
    it meets the splat at (u, v) = (h_x, h_y) / h_z, h = k x l. Coordinates are relative to the
    splat's projected centre, which leaves k and l unchanged.
    """
    row_x, row_y, row_w, center, anchor, _, signed, absolute = geometry.split(GEOMETRY_COLUMNS, 1)
    dx = pixels[:, 0:1] - center[:, 0]
    dy = pixels[:, 1:2] - center[:, 1]
    kx, ky, kz = (dx * row_w[:, i] - row_x[:, i] for i in range(3))
    lx, ly, lz = (dy * row_w[:, i] - row_y[:, i] for i in range(3))
    hx, hy, hz = ky * lz - kz * ly, kz * lx - kx * lz, kx * ly - ky * lx

    at_center = row_x[:, 0] * row_y[:, 1] - row_x[:, 1] * row_y[:, 0]  # h_z at the centre
    meets = (hz * at_center) > PARALLEL_RATIO * at_center * at_center
    safe = torch.where(meets, hz, torch.ones_like(hz))
    rho2 = LOW_PASS_PRECISION * ((dx - anchor[:, 0]) ** 2 + (dy - anchor[:, 1]) ** 2)

    if options.carriers:
        ray_wins = meets & ((hx * hx + hy * hy).detach() <= (rho2 * safe * safe).detach())
        hx, hy = _carry(hx, hy, (kx, ky, lx, ly), (signed, absolute), ray_wins)
    u, v = hx / safe, hy / safe
    rho3 = u * u + v * v
    depth = row_w[:, 0] * u + row_w[:, 1] * v + row_w[:, 2]
    ray_wins = meets & (rho3 <= rho2)
    hit = meets & (depth >= options.near)
    if options.center_depth:
        depth = torch.where(ray_wins, depth, row_w[:, 2].expand_as(depth))
        hit = hit | ~ray_wins
    depth = torch.where(hit, depth, torch.ones_like(depth))
    return torch.where(ray_wins, rho3, rho2), depth, hit


def _carry(
    hx: Tensor,
    hy: Tensor,
    planes: tuple[Tensor, Tensor, Tensor, Tensor],
    carriers: tuple[Tensor, Tensor],
    ray_wins: Tensor,
) -> tuple[Tensor, Tensor]:
    """Add the zero-valued carriers to M_x[2], M_y[2] in the pixels where the ray path decides.

    k_z = x M_w[2] - M_x[2] and l_z enter h_x and h_y linearly and nothing else.
    """
    kx, ky, lx, ly = planes
    signed, absolute = carriers
    pixels = len(hx)
    add_x = signed[:, 0] + _ExpandSummingMagnitudes.apply(absolute[:, 0], pixels)
    add_y = signed[:, 1] + _ExpandSummingMagnitudes.apply(absolute[:, 1], pixels)
    add_x = torch.where(ray_wins, add_x, torch.zeros_like(add_x))
    add_y = torch.where(ray_wins, add_y, torch.zeros_like(add_y))
    return hx - ky * add_y + ly * add_x, hy - lx * add_x + kx * add_y


def blend(geometry: Tensor, pixels: Tensor, options: BlendOptions) -> Blended:
    """Front-to-back weights w = alpha T of depth-sorted splats (Eq. 1)."""
    rho, depth, hit = intersect(geometry, pixels, options)
    opacity = geometry[:, sum(GEOMETRY_COLUMNS[:5])]
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


def composite(geometry: Tensor, values: Tensor, pixels: Tensor, options: BlendOptions) -> Tensor:
    """Images [P, V + 4] of n splats with values [n, V]: the values, then MAP_COLUMNS.

    No gradient comes in from pixels without a contribution: that of a renderer which divides by
    alpha is no number there.
    """
    blended = blend(geometry, pixels, options)
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
