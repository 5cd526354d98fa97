# SPDX-License-Identifier: Apache-2.0
"""Depth image to pseudo-normals, as 2DGS's normal consistency needs them."""

from __future__ import annotations

import torch
from torch import Tensor

from scene.cameras import Camera

SMALLEST = 1e-12  # of a cross product: shorter ones are no normals


def back_project(camera: Camera, depth: Tensor) -> Tensor:
    """World points [3, H, W] of a depth image [1, H, W]; rays pass through pixel centres.

    The centre of the first pixel is at (0.5, 0.5), so no half-pixel offset tilts the normals.
    """
    height, width = depth.shape[-2:]
    x = (torch.arange(width).to(depth) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(height).to(depth) + 0.5 - camera.cy) / camera.fy
    rays = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(depth[0])]
    )
    pose = camera.world_to_view.to(depth)
    rotation, translation = pose[:3, :3], pose[:3, 3]
    in_view = (rays * depth).reshape(3, -1) - translation[:, None]
    return (rotation.T @ in_view).reshape(3, height, width)


def depth_to_normal(camera: Camera, depth: Tensor) -> Tensor:
    """Unit normals [3, H, W] in world frame, facing the camera; zero on the one-pixel border.

    Cross product of the central differences along rows and columns of the back-projected depth.
    """
    points = back_project(camera, depth)
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    right = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    # y points down in the image, so down x right faces the camera. Written out: torch's own cross
    # product and norm over the first axis take fifty times as long on a CPU.
    (dx, dy, dz), (rx, ry, rz) = down.unbind(0), right.unbind(0)
    normal = torch.stack([dy * rz - dz * ry, dz * rx - dx * rz, dx * ry - dy * rx])
    square = (normal * normal).sum(dim=0, keepdim=True)
    normal = normal * square.clamp_min(SMALLEST**2).rsqrt()
    return torch.nn.functional.pad(normal, (1, 1, 1, 1))
