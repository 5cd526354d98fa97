# SPDX-License-Identifier: Apache-2.0
"""What one rendered view holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diff_surfel_rasterization import RasterOutput, RasterSettings
from diff_surfel_rasterization.losses import normal_loss
from gaussian_renderer.surface import depth_to_normal
from scene.cameras import Camera


@dataclass(frozen=True)
class RenderOutput:
    """Images of one view, [C, H, W]; depth in scene units along the optical axis.

    What is derived of the rasterizer's images is made when it is first asked for.
    """

    camera: Camera
    raw: RasterOutput  # the rasterizer's images, in the camera's frame
    settings: RasterSettings  # they were made with
    screen_grad: Tensor | None = None  # [N, 3] zeros; after backward .grad is the signal; or none
    depth_ratio: float | None = 0.0  # share of the median in the surface's depth; None: no surface

    @property
    def color(self) -> Tensor:
        """[3, H, W] over the background."""
        return self.raw.color

    @property
    def alpha(self) -> Tensor:
        """[1, H, W] accumulated opacity."""
        return self.raw.alpha

    @property
    def median_depth(self) -> Tensor:
        """[1, H, W]."""
        return self.raw.median_depth

    @property
    def distortion(self) -> Tensor:
        """[1, H, W]."""
        return self.raw.distortion

    @property
    def instance(self) -> Tensor:
        """Rendered instance attribute [D_obj, H, W] (Eq. 3); D_obj = 0 if not asked for."""
        return self.raw.features

    @property
    def radii(self) -> Tensor:
        """[N] int32, pixels; 0 = not visible."""
        return self.raw.radii

    @cached_property
    def depth(self) -> Tensor:
        """Expected depth [1, H, W]: sum of w z over alpha, 0 where nothing is hit."""
        alpha = self.raw.alpha
        return self.raw.depth / alpha.clamp_min(torch.finfo(alpha.dtype).eps)

    @cached_property
    def normal(self) -> Tensor:
        """Sum of w n [3, H, W] in the world frame, not unit."""
        rotation = self.camera.world_to_view[:3, :3].to(self.raw.normal)
        return torch.einsum("ji,jhw->ihw", rotation, self.raw.normal)

    @cached_property
    def surface_normal(self) -> Tensor:
        """[3, H, W] in the world frame, from the depth image, times alpha (detached); zeros where
        no surface was asked for."""
        if self.depth_ratio is None:
            return torch.zeros_like(self.raw.normal)
        depth = (1 - self.depth_ratio) * self.depth + self.depth_ratio * self.raw.median_depth
        return depth_to_normal(self.camera, depth) * self.raw.alpha.detach()

    def normal_loss(self, backend: str = "auto") -> Tensor:
        """Mean of 1 - <normal, surface_normal> (2DGS Eq. 14), by a kernel that makes neither.

        Raises ValueError where no surface was asked for.
        """
        if self.depth_ratio is None:
            raise ValueError("this view was rendered without a surface")
        return normal_loss(self.raw, self.settings, self.depth_ratio, backend)
