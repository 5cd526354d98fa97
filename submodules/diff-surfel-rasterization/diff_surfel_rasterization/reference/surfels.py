# SPDX-License-Identifier: Apache-2.0
"""Flat Gaussians in the reference (2DGS): pixel transforms, their bounds, and the intersection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..constants import (
    BOX_SIGMAS,
    EDGE_ON_COSINE,
    LOW_PASS_PRECISION,
    MIN_RADIUS,
    PARALLEL_RATIO,
)
from ..types import RasterSettings, Splats, Surfels
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

# Columns of the geometry table behind the opacity: M_x, M_y relative to the centre, M_w, centre,
# anchor - centre, signed carriers, absolute carriers.
GEOMETRY_COLUMNS = (3, 3, 3, 2, 2, 2, 2)


@dataclass(frozen=True)
class Projected:
    """N splats in one view. Pixel coordinates put the first pixel's centre at (0.5, 0.5)."""

    transform: Tensor  # [N, 3, 3] rows M_x, M_y, M_w: M (u, v, 1) = z (x, y, 1)
    normal: Tensor  # [N, 3] camera frame, facing the camera
    color: Tensor  # [N, 3]
    opacity: Tensor  # [N]
    alive: Tensor  # [N] bool: beyond the near plane and not edge-on

    @property
    def depth(self) -> Tensor:
        """Camera depth [N] of the centres."""
        return self.transform[:, 2, 2]


def project(surfels: Surfels, settings: RasterSettings) -> Projected:
    """Pixel transforms M = K V [s_u t_u, s_v t_v, p] (2DGS Eq. 8-9), normals and colours."""
    means = surfels.means
    view = settings.world_to_view.detach().to(means)
    turn, shift = view[:3, :3], view[:3, 3]
    axes = turn @ rotation_matrices(surfels.rotations)  # columns t_u, t_v, n in the camera frame
    scales = surfels.scales * settings.scale_modifier
    centers = means @ turn.T + shift
    tangents = axes[:, :, :2] * scales[:, None, :]
    in_camera = torch.cat([tangents, centers[:, :, None]], dim=2)

    facing = -(axes[:, :, 2] * centers).sum(dim=-1)  # > 0: the normal looks at the camera
    flip = torch.where(facing < 0, -1.0, 1.0).to(means)
    edge_on = facing.abs() <= EDGE_ON_COSINE * centers.norm(dim=-1)
    return Projected(
        transform=intrinsics(settings, means) @ in_camera,
        normal=axes[:, :, 2] * flip[:, None],
        color=splat_colors(surfels, settings),
        opacity=surfels.opacities[:, 0],
        alive=(centers[:, 2] > settings.near) & ~edge_on,
    )


def intrinsics(settings: RasterSettings, like: Tensor) -> Tensor:
    """The matrix [3, 3] from camera coordinates to homogeneous pixels, in the type of `like`."""
    rows = [[settings.fx, 0.0, settings.cx], [0.0, settings.fy, settings.cy], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def projected_centers(projected: Projected) -> Tensor:
    """Where the centres [N, 2] appear; zero for splats that are not alive."""
    row_w = torch.where(projected.alive, projected.depth, torch.ones_like(projected.depth))
    centers = projected.transform[:, :2, 2] / row_w[:, None]
    return torch.where(projected.alive[:, None], centers, torch.zeros_like(centers))


def anchors(projected: Projected, mode: str) -> Tensor:
    """Centre [N, 2] of the low-pass disc: the projected centre, or that of the 3 sigma box.

    The box does not exist for a disc that crosses the camera plane; its projected centre serves.
    """
    centers = projected_centers(projected)
    if mode == "projected":
        return centers
    offset, _, exists = ellipse_box(projected, centers.detach(), BOX_SIGMAS**2)
    return torch.where(exists[:, None], centers.detach() + offset, centers)


def ellipse_box(
    projected: Projected, centers: Tensor, rho: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Box of the image of the disc u^2 + v^2 <= rho, as (offset from `centers`, squared half
    extent, exists), shapes [N, 2], [N, 2], [N].

    It exists while the disc stays in front of the camera plane: rho (M_wx^2 + M_wy^2) < M_wz^2.
    Working relative to `centers` (constants) avoids cancellation in float32.
    """
    row_w = projected.transform[:, 2]
    rows = projected.transform[:, :2] - centers[:, :, None] * row_w[:, None, :]
    rho = torch.as_tensor(rho).to(row_w).expand(len(row_w))
    signs = torch.stack([rho, rho, -torch.ones_like(rho)], dim=-1)
    distance = (signs * row_w * row_w).sum(dim=-1)
    exists = projected.alive & (distance < 0)
    weights = signs / torch.where(exists, distance, -torch.ones_like(distance))[:, None]
    offset = (weights[:, None] * rows * row_w[:, None]).sum(dim=-1)
    squared = offset * offset - (weights[:, None] * rows * rows).sum(dim=-1)
    return offset, squared, exists


@torch.no_grad()
def support_bounds(projected: Projected, settings: RasterSettings) -> Bounds:
    """Conservative boxes of alpha >= 1/255, and the radii that callers see.

    A radius is that of the 3 sigma box (at least the low-pass's), as 2DGS reports it; it is zero
    exactly when no pixel centre lies in the box of the support. A disc that crosses the camera
    plane has the whole image as its box and max(width, height) as its radius.
    """
    centers = projected_centers(projected)
    cut = support_cut(projected.opacity)
    supported = projected.alive & (cut >= 0)
    cut = cut.clamp_min(0.0)
    offset, squared, exists = ellipse_box(projected, centers, cut)
    half = torch.where(exists[:, None], squared.clamp_min(0.0).sqrt(), torch.zeros_like(offset))
    disc = (cut / LOW_PASS_PRECISION).sqrt()[:, None]
    anchor = anchors(projected, settings.low_pass_anchor)
    low = torch.minimum(centers + offset - half, anchor - disc)
    high = torch.maximum(centers + offset + half, anchor + disc)
    image = torch.tensor([settings.width, settings.height]).to(low)
    low = torch.where(exists[:, None], low, torch.zeros_like(low))
    high = torch.where(exists[:, None], high, image.expand_as(high))

    visible = supported & visible_splats(low, high, settings)
    slack = BOUND_SLACK_PIXELS + BOUND_SLACK_RELATIVE * half
    box = torch.cat([low - slack, high + slack], dim=-1)
    box[~supported] = -1.0
    return Bounds(box=box, radii=_radii(projected, settings, centers, visible))


def _radii(
    projected: Projected, settings: RasterSettings, centers: Tensor, visible: Tensor
) -> Tensor:
    _, squared, exists = ellipse_box(projected, centers, BOX_SIGMAS**2)
    radius = squared.amax(dim=-1).clamp_min(MIN_RADIUS**2).sqrt()
    whole = float(max(settings.width, settings.height))
    radius = torch.where(exists, radius, torch.full_like(radius, whole))
    return whole_radii(radius, visible)


def geometry_table(projected: Projected, surfels: Splats, settings: RasterSettings) -> Tensor:
    """All that the pixels need, one row per splat: opacity, then GEOMETRY_COLUMNS."""
    center = projected_centers(projected).detach()
    row_w = projected.transform[:, 2]
    relative = projected.transform[:, :2] - center[:, :, None] * row_w[:, None, :]
    half_size = torch.tensor([settings.width / 2, settings.height / 2]).to(row_w)
    unit = projected.depth.detach()[:, None] * half_size
    return torch.cat(
        [
            projected.opacity[:, None],
            relative.flatten(1),
            row_w,
            center,
            anchors(projected, settings.low_pass_anchor) - center,
            *carried(surfels, unit),
        ],
        dim=1,
    )


def intersect(
    geometry: Tensor, pixels: Tensor, options: BlendOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """(rho, depth, hit), each [P, n]: squared distance in standard deviations (Eq. 11), camera
    depth, and whether pixel and splat meet at all beyond the near plane.

    The ray of a pixel is the intersection of the planes k = x M_w - M_x and l = y M_w - M_y;
    it meets the splat at (u, v) = (h_x, h_y) / h_z, h = k x l. Coordinates are relative to the
    splat's projected centre, which leaves k and l unchanged.
    """
    row_x, row_y, row_w, center, anchor, signed, absolute = geometry.split(GEOMETRY_COLUMNS, 1)
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
    add_x = signed[:, 0] + ExpandSummingMagnitudes.apply(absolute[:, 0], pixels)
    add_y = signed[:, 1] + ExpandSummingMagnitudes.apply(absolute[:, 1], pixels)
    add_x = torch.where(ray_wins, add_x, torch.zeros_like(add_x))
    add_y = torch.where(ray_wins, add_y, torch.zeros_like(add_y))
    return hx - ky * add_y + ly * add_x, hy - lx * add_x + kx * add_y


SURFELS = Kind(project, support_bounds, geometry_table, intersect)
