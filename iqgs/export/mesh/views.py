# SPDX-License-Identifier: Apache-2.0
"""What one view knows of the surfaces: depth, colour and objects, and how it is read at points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scene.cameras import Camera

# Inverse depth is linear over a plane, so between pixels it is interpolated, unless the four around
# a place differ by more than this share: then they are of two surfaces, and the nearest counts.
_ONE_SURFACE = 0.05


@dataclass(frozen=True, eq=False)
class DepthView:
    """Images of one camera. Depth is along the optical axis in scene units: 0 where unknown,
    infinite where nothing is in sight, so that what lies there is known to be free.
    """

    camera: Camera
    depth: Tensor  # [H, W]
    color: Tensor | None = None  # [3, H, W] uint8
    labels: Tensor | None = None  # [H, W] int64, object of each pixel, 0 = none

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.depth.shape != size:
            raise ValueError(f"expected depth {size}, got {tuple(self.depth.shape)}")

    def project(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points [N, 3] -> columns, rows [N] (pixel centres at whole numbers) and depths [N]."""
        camera = self.camera
        pose = camera.world_to_view.to(points)
        view = points @ pose[:3, :3].T + pose[:3, 3]
        z = view[:, 2]
        safe = z.clamp_min(camera.near)
        x = camera.fx * view[:, 0] / safe + (camera.cx - 0.5)
        y = camera.fy * view[:, 1] / safe + (camera.cy - 0.5)
        return x, y, z

    def inside(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Which of the projected points [N] lie in the image, before the camera."""
        camera = self.camera
        seen = (z > camera.near) & (x > -0.5) & (x < camera.width - 0.5)
        return seen & (y > -0.5) & (y < camera.height - 0.5)

    def nearest(self, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Values [..., N] of the pixels that hold places inside the image [..., H, W]."""
        column = (x + 0.5).long().clamp_(0, self.camera.width - 1)
        row = (y + 0.5).long().clamp_(0, self.camera.height - 1)
        return image[..., row, column]

    def depth_at(self, x: Tensor, y: Tensor) -> Tensor:
        """Depth [N] at places inside the image; 0 where unknown."""
        width, height = self.camera.width, self.camera.height
        left, top = x.floor().clamp_(0, width - 2), y.floor().clamp_(0, height - 2)
        across, down = (x - left).clamp_(0, 1), (y - top).clamp_(0, 1)
        first = top.long() * width + left.long()
        depth = self.depth.reshape(-1)
        corners = torch.stack([depth[first + step] for step in (0, 1, width, width + 1)])
        low, high = corners.amin(dim=0), corners.amax(dim=0)
        inverse = 1 / corners.clamp_min(1e-9)
        upper = inverse[0] + (inverse[1] - inverse[0]) * across
        lower = inverse[2] + (inverse[3] - inverse[2]) * across
        smooth = 1 / (upper + (lower - upper) * down)
        one = (low > 0) & (high - low <= _ONE_SURFACE * low)
        return torch.where(one, smooth, self.nearest(self.depth, x, y))
