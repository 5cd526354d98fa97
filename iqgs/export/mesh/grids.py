# SPDX-License-Identifier: Apache-2.0
"""The grids that depth is fused in: evenly spaced, or contracted so that it reaches to infinity."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# A contracted ball ends at radius 2; what is farther than 20 radii is one voxel thick there.
_OUTERMOST = 1.95


@dataclass(frozen=True)
class Grid:
    """Voxel i has its centre at `voxel` * i in space; nothing has a border."""

    voxel: float  # edge length, scene units
    reach: float  # of a depth before and behind its surface, scene units

    def to_grid(self, points: Tensor) -> Tensor:
        """World points [N, 3] in voxels."""
        return points / self.voxel

    def to_world(self, places: Tensor) -> Tensor:
        """Places [N, 3] in voxels as world points; the inverse."""
        return places * self.voxel

    def reach_at(self, points: Tensor) -> Tensor:
        """The reach [N] at world points [N, 3]."""
        return torch.full_like(points[:, 0], self.reach)


@dataclass(frozen=True)
class ContractedGrid(Grid):
    """An even grid within the ball of the cameras; outside of it space is contracted as in
    mip-NeRF 360 (Barron et al. 2022, Eq. 10): x -> (2 - 1 / |x|) x / |x|, in units of the ball.
    Voxels and reach grow outwards with the square of the distance.
    """

    center: tuple[float, float, float] = field(kw_only=True)
    radius: float = field(kw_only=True)

    def to_grid(self, points: Tensor) -> Tensor:
        unit = (points - points.new_tensor(self.center)) / self.radius
        length = unit.norm(dim=1, keepdim=True).clamp_min(1e-9)
        contracted = torch.where(length > 1, (2 - 1 / length) * unit / length, unit)
        return contracted * (self.radius / self.voxel)

    def to_world(self, places: Tensor) -> Tensor:
        contracted = places * (self.voxel / self.radius)
        length = contracted.norm(dim=1, keepdim=True).clamp_min(1e-9)
        ball = contracted * (length.clamp_max(_OUTERMOST) / length)
        length = length.clamp_max(_OUTERMOST)
        unit = torch.where(length > 1, ball / length / (2 - length), ball)
        return unit * self.radius + unit.new_tensor(self.center)

    def reach_at(self, points: Tensor) -> Tensor:
        unit = (points - points.new_tensor(self.center)) / self.radius
        return self.reach * unit.norm(dim=1).clamp_min(1.0).square()
