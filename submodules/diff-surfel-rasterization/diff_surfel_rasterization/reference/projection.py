# SPDX-License-Identifier: Apache-2.0
"""Per-splat part of the reference: from surfels to pixel transforms and their bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..constants import (
    BOX_SIGMAS,
    EDGE_ON_COSINE,
    LOW_PASS_PRECISION,
    MIN_RADIUS,
    SUPPORT_ALPHA,
)
from ..types import RasterSettings, Surfels
from .color import sh_colors

# The tile lists are built from bounds; the slack covers their rounding and never changes an image.
BOUND_SLACK_PIXELS = 0.05
BOUND_SLACK_RELATIVE = 1e-3


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


@dataclass(frozen=True)
class Bounds:
    """Where each splat can contribute: x0, y0, x1, y1 [N, 4] in pixels, and the reported radii."""

    box: Tensor
    radii: Tensor  # [N] int32, 0 = contributes to no pixel


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotations [N, 3, 3] of quaternions [N, 4] (w, x, y, z) of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


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


def splat_colors(surfels: Surfels, settings: RasterSettings) -> Tensor:
    """Colours [N, 3]: the given ones, or those of the harmonics seen from the camera."""
    if surfels.colors is not None:
        return surfels.colors
    if surfels.sh is None:
        raise ValueError("rasterize: give exactly one of surfels.colors and surfels.sh")
    view = settings.world_to_view.detach().to(surfels.means)
    camera_center = -view[:3, :3].T @ view[:3, 3]
    return sh_colors(surfels.sh, surfels.means, camera_center, settings.sh_degree)


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
    cut = 2.0 * torch.log(projected.opacity.clamp_min(1e-30) / SUPPORT_ALPHA)
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

    first = torch.ceil(low - 0.5).clamp_min(0.0)
    last = torch.minimum(torch.floor(high - 0.5), image - 1)
    visible = supported & (first <= last).all(dim=-1)
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
    limit = float(2**30)  # stays inside int32 for degenerate boxes
    return torch.where(visible, radius.ceil().clamp_max(limit), 0.0).to(torch.int32)
