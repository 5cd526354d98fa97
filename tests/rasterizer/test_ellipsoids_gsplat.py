# SPDX-License-Identifier: Apache-2.0
"""Where a 3D Gaussian shows, and how much, by the torch mathematics of gsplat 1.5.3."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import Ellipsoids, RasterSettings, rasterize
from diff_surfel_rasterization.constants import MAX_ALPHA, SUPPORT_ALPHA
from tests.rasterizer.scenes import detached, make_view, map_tensors, random_ellipsoids

gsplat = pytest.importorskip(
    "gsplat.cuda._torch_impl", reason="pip install --no-deps -r tests/benchmarks/requirements.txt"
)


def alphas_of_gsplat(splats: Ellipsoids, view: RasterSettings) -> Tensor:
    """Alpha [N, H, W] of each splat alone; the cut-off and the clamp are ours."""
    covariance, _ = gsplat._quat_scale_to_covar_preci(splats.rotations, splats.scales, True, False)
    intrinsics = torch.tensor([[view.fx, 0, view.cx], [0, view.fy, view.cy], [0, 0, 1]])
    radii, centers, depths, conics, _ = gsplat._fully_fused_projection(
        splats.means,
        covariance,
        view.world_to_view.float()[None],
        intrinsics[None],
        view.width,
        view.height,
        near_plane=view.near,
    )
    x, y = torch.arange(view.width) + 0.5, torch.arange(view.height)[:, None] + 0.5
    dx, dy = x - centers[0, :, :1, None], y - centers[0, :, 1:, None]
    a, b, c = (conics[0, :, k, None, None] for k in range(3))
    alpha = splats.opacities[..., None] * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
    shown = (alpha >= SUPPORT_ALPHA) & (depths[0, :, None, None] > view.near)
    return torch.where(shown, alpha.clamp_max(MAX_ALPHA), torch.zeros(()))


def test_single_splats_in_and_beside_the_view() -> None:
    splats = detached(random_ellipsoids(40, seed=3, log_scale=(-2.0, 0.5)), torch.float32)
    aside = torch.ones(40, 3)
    aside[20:, :2] = 6.0  # where the slope of the perspective is kept within bounds
    larger = torch.where(torch.arange(40) < 20, 1.0, 3.0)[:, None]
    splats = replace(splats, means=splats.means * aside, scales=splats.scales * larger)
    view = make_view(48, 35, cx=20.0, cy=25.0)
    expected = alphas_of_gsplat(splats, view)
    assert int((expected[20:].amax(dim=(1, 2)) > 0).sum()) >= 10
    for index in range(40):
        one = map_tensors(splats, lambda tensor, i=index: tensor[i : i + 1])
        found = rasterize(one, view, "reference").alpha[0]
        close = (expected[index] - SUPPORT_ALPHA).abs() < 1e-5  # the cut-off may fall either way
        assert float((found - expected[index]).abs()[~close].max()) < 1e-5, index
