# SPDX-License-Identifier: Apache-2.0
"""What one rendered view holds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RenderOutput:
    """Images of one view, [C, H, W]; depth in scene units along the optical axis."""

    color: Tensor  # [3, H, W] over the background
    alpha: Tensor  # [1, H, W] accumulated opacity
    depth: Tensor  # [1, H, W] expected depth: sum of w z over alpha, 0 where nothing is hit
    median_depth: Tensor  # [1, H, W]
    distortion: Tensor  # [1, H, W]
    normal: Tensor  # [3, H, W] world frame, sum of w n (not unit)
    surface_normal: Tensor  # [3, H, W] world frame, from the depth image, times alpha (detached)
    instance: Tensor  # [D_obj, H, W], rendered instance attribute (Eq. 3); D_obj = 0 if not asked
    radii: Tensor  # [N] int32, pixels; 0 = not visible
    screen_grad: Tensor  # [N, 3] zeros; after backward its .grad is the densification signal
