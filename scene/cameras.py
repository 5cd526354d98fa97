# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras in COLMAP's convention: x right, y down, z forward, first pixel centre at 0.5."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Camera:
    """One pose with its intrinsics at the size that is rendered. Holds no pixels."""

    world_to_view: Tensor  # [4, 4] float64, on the CPU
    fx: float  # pixels of the render size, like fy, cx, cy
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    name: str  # image name with its sub-path, posix separators
    uid: int  # position among all views of the scene, sorted by name
    near: float = 0.2  # 2DGS' near plane, world units
    far: float = 100.0

    def __post_init__(self) -> None:
        if tuple(self.world_to_view.shape) != (4, 4):
            raise ValueError(f"world_to_view must be [4, 4], got {list(self.world_to_view.shape)}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"camera of {self.width}x{self.height} pixels")

    @property
    def center(self) -> Tensor:
        """Camera centre in the world, [3] float64."""
        rotation, translation = self.world_to_view[:3, :3], self.world_to_view[:3, 3]
        return -(rotation.T @ translation)

    @property
    def forward(self) -> Tensor:
        """Viewing direction in the world, [3] float64, unit length."""
        return self.world_to_view[2, :3]

    @property
    def fovx(self) -> float:
        """Horizontal field of view in radians, as if the principal point were central."""
        return 2.0 * math.atan(self.width / (2.0 * self.fx))

    @property
    def fovy(self) -> float:
        """Vertical field of view in radians, as if the principal point were central."""
        return 2.0 * math.atan(self.height / (2.0 * self.fy))

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for an image resampled to width x height (intrinsics scale along)."""
        scale_x, scale_y = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * scale_x,
            cx=self.cx * scale_x,
            fy=self.fy * scale_y,
            cy=self.cy * scale_y,
            width=width,
            height=height,
        )

    def moved(self, origin: tuple[float, float, float]) -> Camera:
        """The same camera in coordinates that begin at `origin`, computed in float64."""
        if not any(origin):
            return self
        matrix = self.world_to_view.clone()
        center = self.center - torch.tensor(origin, dtype=torch.float64)
        matrix[:3, 3] = -matrix[:3, :3] @ center
        return replace(self, world_to_view=matrix)

    def project(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """World points [N, 3] -> pixels [N, 2] (COLMAP convention) and depths [N], float64.

        Pixels of points with depth <= 0 mean nothing.
        """
        matrix = self.world_to_view.to(positions.device)
        view = positions.to(torch.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        depth = view[:, 2]
        safe = torch.where(depth > 0, depth, torch.ones_like(depth))
        u = self.fx * view[:, 0] / safe + self.cx
        v = self.fy * view[:, 1] / safe + self.cy
        return torch.stack([u, v], dim=1), depth

    def ray_directions(self, pixels: Tensor) -> Tensor:
        """Unit world directions [N, 3] float64 of the rays through pixels [N, 2]."""
        pixels = pixels.to(torch.float64)
        local = torch.stack(
            [
                (pixels[:, 0] - self.cx) / self.fx,
                (pixels[:, 1] - self.cy) / self.fy,
                torch.ones_like(pixels[:, 0]),
            ],
            dim=1,
        )
        world = local @ self.world_to_view[:3, :3].to(pixels.device)
        return world / world.norm(dim=1, keepdim=True)


def scene_extent(cameras: list[Camera]) -> float:
    """1.1 x the largest distance of a camera from the mean camera centre (3DGS' scene radius).

    Zero for one camera, or for several at one place.
    """
    centers = torch.stack([camera.center for camera in cameras])
    return 1.1 * float((centers - centers.mean(dim=0)).norm(dim=1).max())
