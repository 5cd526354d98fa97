# SPDX-License-Identifier: Apache-2.0
"""Per-splat part of the reference, whatever the kind of splat.

What depends on it stands in `surfels` and `ellipsoids`, which each give a `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..constants import SUPPORT_ALPHA
from ..types import RasterSettings, Splats
from .color import sh_colors

# The tile lists are built from bounds; the slack covers their rounding and never changes an image.
BOUND_SLACK_PIXELS = 0.05
BOUND_SLACK_RELATIVE = 1e-3


class Projected(Protocol):
    """N splats in one view. Pixel coordinates put the first pixel's centre at (0.5, 0.5)."""

    @property
    def normal(self) -> Tensor:
        """Camera frame, facing the camera, [N, 3]."""

    @property
    def color(self) -> Tensor:
        """[N, 3]."""

    @property
    def depth(self) -> Tensor:
        """Camera depth [N] of the centres."""


@dataclass(frozen=True)
class Bounds:
    """Where each splat can contribute: x0, y0, x1, y1 [N, 4] in pixels, and the reported radii."""

    box: Tensor
    radii: Tensor  # [N] int32, 0 = contributes to no pixel


@dataclass(frozen=True)
class BlendOptions:
    """What the compositing needs to know beside the splats."""

    near: float
    far: float
    center_depth: bool  # surfels: depth of the centre where the low-pass disc wins
    carriers: bool  # screen-space gradients are wanted


# (rho, depth, hit), each [P, n]: squared distance in standard deviations, camera depth, and whether
# pixel and splat meet at all, from rows [n, G] of the table without opacity and pixels [P, 2].
Meet = Callable[[Tensor, Tensor, BlendOptions], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Kind:
    """How splats of one kind are seen. `Any` stands for what its own `project` gives."""

    project: Callable[[Any, RasterSettings], Any]
    bounds: Callable[[Any, RasterSettings], Bounds]
    table: Callable[[Any, Splats, RasterSettings], Tensor]  # [N, 1 + G], opacity first
    meet: Meet


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotations [N, 3, 3] of quaternions [N, 4] (w, x, y, z) of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def splat_colors(splats: Splats, settings: RasterSettings) -> Tensor:
    """Colours [N, 3]: the given ones, or those of the harmonics seen from the camera."""
    if splats.colors is not None:
        return splats.colors
    if splats.sh is None:
        raise ValueError("rasterize: give exactly one of colors and sh")
    view = settings.world_to_view.detach().to(splats.means)
    camera_center = -view[:3, :3].T @ view[:3, 3]
    return sh_colors(splats.sh, splats.means, camera_center, settings.sh_degree)


def support_cut(opacity: Tensor) -> Tensor:
    """Squared distance in standard deviations beyond which alpha < 1/255; negative: everywhere."""
    return 2.0 * torch.log(opacity.clamp_min(1e-30) / SUPPORT_ALPHA)


def visible_splats(low: Tensor, high: Tensor, settings: RasterSettings) -> Tensor:
    """Which boxes [N, 2] to [N, 2] hold the centre of a pixel, [N] bool."""
    image = torch.tensor([settings.width, settings.height]).to(low)
    first = torch.ceil(low - 0.5).clamp_min(0.0)
    last = torch.minimum(torch.floor(high - 0.5), image - 1)
    return (first <= last).all(dim=-1)


def whole_radii(radius: Tensor, visible: Tensor) -> Tensor:
    """Radii in whole pixels, [N] int32, 0 where not visible."""
    limit = float(2**30)  # stays inside int32 for degenerate boxes
    return torch.where(visible, radius.ceil().clamp_max(limit), 0.0).to(torch.int32)


def carried(splats: Splats, unit: Tensor) -> list[Tensor]:
    """The signed and the absolute carrier of the screen signal, [N, 2] each: worth zero whatever
    they hold, with `unit` [N, 2] as their gradient's factor."""
    found = []
    for carrier in (splats.screen_grad, splats.screen_grad_abs):
        if carrier is None:
            found.append(torch.zeros_like(unit))
        else:
            xy = carrier[:, :2].to(unit)
            found.append((xy - xy.detach()) * unit)
    return found


class ExpandSummingMagnitudes(torch.autograd.Function):
    """Expand [n] to [P, n]; the gradient is the sum of absolute values, not of values."""

    @staticmethod
    def forward(ctx: object, row: Tensor, pixels: int) -> Tensor:
        return row.expand(pixels, -1).clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.abs().sum(dim=0), None
