# SPDX-License-Identifier: Apache-2.0
"""3D Gaussians in the reference (3DGS): EWA splatting (Zwicker et al. 2002, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..constants import BOX_SIGMAS, RATIO_MARGIN, SCREEN_DILATION
from ..types import RasterSettings, Splats
from .projection import (
    BOUND_SLACK_PIXELS,
    BOUND_SLACK_RELATIVE,
    BlendOptions,
    Bounds,
    ExpandSummingMagnitudes,
    Kind,
    carried,
    rotation_matrices,
    splat_colors,
    support_cut,
    visible_splats,
    whole_radii,
)

# Columns of the geometry table behind the opacity: centre, whitening, depth of the centre, signed
# carriers, absolute carriers.
GEOMETRY_COLUMNS = (2, 3, 1, 2, 2)


@dataclass(frozen=True)
class Projected:
    """N ellipsoids in one view."""

    center: Tensor  # [N, 2] pixels
    covariance: Tensor  # [N, 3] on screen: xx, xy, yy, dilated
    depth: Tensor  # [N] of the centres
    normal: Tensor  # [N, 3] the shortest axis, camera frame, facing the camera
    color: Tensor  # [N, 3]
    opacity: Tensor  # [N]
    alive: Tensor  # [N] bool: beyond the near plane


def project(splats: Splats, settings: RasterSettings) -> Projected:
    """Centres, and covariances J W Sigma W^T J^T + 0.3 on screen.

    J is the derivative of the perspective at the centre, its ratios x/z, y/z kept within
    `ratio_limits`. Splats that are not alive have no meaning.
    """
    means = splats.means
    view = settings.world_to_view.detach().to(means)
    turn, shift = view[:3, :3], view[:3, 3]
    axes = turn @ rotation_matrices(splats.rotations)
    scales = splats.scales * settings.scale_modifier
    centers = means @ turn.T + shift
    alive = centers[:, 2] > settings.near
    safe = torch.where(alive[:, None], centers, torch.ones_like(centers))
    depth = safe[:, 2]
    focal = _pair(settings.fx, settings.fy, means)
    ratio = safe[:, :2] / depth[:, None]
    low, high = ratio_limits(settings, means)
    bent = torch.minimum(torch.maximum(ratio, low), high)

    lengths = axes * scales[:, None, :]  # columns: the axes, as long as the deviations
    on_screen = lengths[:, :2] - bent[:, :, None] * lengths[:, 2:]
    on_screen = on_screen * (focal / depth[:, None])[:, :, None]
    x, y = on_screen.unbind(dim=1)
    covariance = [
        (x * x).sum(1) + SCREEN_DILATION,
        (x * y).sum(1),
        (y * y).sum(1) + SCREEN_DILATION,
    ]
    return Projected(
        center=ratio * focal + _pair(settings.cx, settings.cy, means),
        covariance=torch.stack(covariance, dim=1),
        depth=centers[:, 2],
        normal=_shortest_axes(axes, scales, centers),
        color=splat_colors(splats, settings),
        opacity=splats.opacities[:, 0],
        alive=alive,
    )


def ratio_limits(settings: RasterSettings, like: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest x/z and y/z, [2] each: the image and 0.3 of half its sides beyond it.

    With the principal point in the middle these are the +-1.3 tan(fov / 2) of 3DGS.
    """
    size = _pair(settings.width, settings.height, like)
    focal = _pair(settings.fx, settings.fy, like)
    center = _pair(settings.cx, settings.cy, like)
    margin = 0.5 * RATIO_MARGIN * size
    return -(center + margin) / focal, (size - center + margin) / focal


def _pair(x: float, y: float, like: Tensor) -> Tensor:
    """Two numbers [2] in the type and on the device of `like`."""
    return torch.tensor([x, y], dtype=like.dtype, device=like.device)


def _shortest_axes(axes: Tensor, scales: Tensor, centers: Tensor) -> Tensor:
    """The shortest of the columns of `axes` [N, 3, 3], the first of equals, facing the camera."""
    first, second, third = scales.detach().unbind(dim=1)
    later = torch.where(second <= third, 1, 2)
    chosen = torch.where((first <= second) & (first <= third), 0, later)
    normal = axes.gather(2, chosen[:, None, None].expand(-1, 3, 1))[:, :, 0]
    away = (normal * centers).sum(dim=1, keepdim=True) > 0
    return torch.where(away, -normal, normal)


@torch.no_grad()
def support_bounds(projected: Projected, settings: RasterSettings) -> Bounds:
    """Boxes of alpha >= 1/255, and the radii that callers see: three standard deviations along the
    longest axis on screen, as 3DGS reports them.
    """
    cut = support_cut(projected.opacity)
    supported = projected.alive & (cut >= 0)
    xx, xy, yy = projected.covariance.unbind(dim=1)
    half = (cut.clamp_min(0.0)[:, None] * torch.stack([xx, yy], dim=1)).sqrt()
    low, high = projected.center - half, projected.center + half
    slack = BOUND_SLACK_PIXELS + BOUND_SLACK_RELATIVE * half
    box = torch.cat([low - slack, high + slack], dim=1)
    box[~supported] = -1.0
    largest = (xx + yy) / 2 + ((xx - yy) ** 2 / 4 + xy**2).sqrt()
    visible = supported & visible_splats(low, high, settings)
    return Bounds(box=box, radii=whole_radii(BOX_SIGMAS * largest.sqrt(), visible))


def geometry_table(projected: Projected, splats: Splats, settings: RasterSettings) -> Tensor:
    """All that the pixels need, one row per splat: opacity, then GEOMETRY_COLUMNS."""
    xx, xy, yy = projected.covariance.unbind(dim=1)
    lean = xy / yy
    within = (xx - lean * xy).clamp_min(SCREEN_DILATION)  # never less but for rounding
    whitening = torch.stack([within.rsqrt(), -lean * within.rsqrt(), yy.rsqrt()], dim=1)
    unit = _pair(settings.width / 2, settings.height / 2, xx).expand(len(xx), 2)
    return torch.cat(
        [
            projected.opacity[:, None],
            projected.center,
            whitening,
            projected.depth[:, None],
            *carried(splats, unit),
        ],
        dim=1,
    )


def meet(geometry: Tensor, pixels: Tensor, options: BlendOptions) -> tuple[Tensor, Tensor, Tensor]:
    """(rho, depth, hit), each [P, n]; see `Meet`. Every pixel meets every splat that is listed.

    rho = d^T C^-1 d for the distance d to the centre and the covariance C on screen, as the sum of
    squares of how far off the pixel is within its row of pixels, and of how far off that row is.
    """
    center, whitening, depth, signed, absolute = geometry.split(GEOMETRY_COLUMNS, 1)
    dx = pixels[:, 0:1] - center[:, 0]
    dy = pixels[:, 1:2] - center[:, 1]
    if options.carriers:
        dx = dx - signed[:, 0] - ExpandSummingMagnitudes.apply(absolute[:, 0], len(pixels))
        dy = dy - signed[:, 1] - ExpandSummingMagnitudes.apply(absolute[:, 1], len(pixels))
    across, along, down = whitening.unbind(dim=1)
    u, v = across * dx + along * dy, down * dy
    rho = u * u + v * v
    return rho, depth[:, 0].expand_as(rho), torch.ones_like(rho, dtype=torch.bool)


ELLIPSOIDS = Kind(project, support_bounds, geometry_table, meet)
