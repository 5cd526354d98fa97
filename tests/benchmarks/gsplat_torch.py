# SPDX-License-Identifier: Apache-2.0
"""The torch 2DGS mathematics of gsplat 1.5.3 on the CPU, imported from the installed package.

Two pieces of it exist only for CUDA. Its search for (pixel, splat) pairs is replaced by our table,
given free of charge; the two nerfacc calls by the packed products and sums below.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, RasterSettings, Surfels


def _weights_along_rays(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    """w = alpha T of packed samples sorted by ray, and T."""
    counts = torch.bincount(ray_indices, minlength=n_rays)
    first = (torch.cumsum(counts, dim=0) - counts)[ray_indices]
    total = torch.cumsum(torch.log1p(-alphas.double()), dim=0)
    before = torch.cat([total.new_zeros(1), total[:-1]])
    through = torch.exp(before - before[first]).to(alphas)
    return alphas * through, through


def _sum_along_rays(
    weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int
) -> Tensor:
    """Sum of w times values per ray, [rays, C]."""
    terms = weights[:, None] if values is None else weights[:, None] * values
    return terms.new_zeros(n_rays, terms.shape[1]).index_add(0, ray_indices, terms)


def load() -> ModuleType | None:
    """gsplat's torch functions with the stand-ins in place; None if gsplat is not installed."""
    stand_in = ModuleType("nerfacc")
    stand_in.render_weight_from_alpha = _weights_along_rays  # type: ignore[attr-defined]
    stand_in.accumulate_along_rays = _sum_along_rays  # type: ignore[attr-defined]
    sys.modules["nerfacc"] = stand_in
    try:
        return importlib.import_module("gsplat.cuda._torch_impl_2dgs")
    except ImportError:
        return None


def make_renderer(
    module: ModuleType, weights: BlendWeights, settings: RasterSettings
) -> Callable[[Surfels], tuple[Tensor, ...]]:
    """A function from surfels to (colours and features, alpha, normals)."""
    counts = weights.row_start.diff()
    pixel = torch.repeat_interleave(torch.arange(len(counts)), counts)
    splat = weights.splat.long()
    image = torch.zeros_like(pixel)
    rows = [[settings.fx, 0, settings.cx], [0, settings.fy, settings.cy], [0, 0, 1]]
    intrinsics = torch.tensor(rows)[None]
    view = settings.world_to_view[None]
    size = (settings.width, settings.height)

    def render(surfels: Surfels) -> tuple[Tensor, ...]:
        assert surfels.colors is not None and surfels.features is not None
        third = torch.ones_like(surfels.opacities)
        scales = torch.cat([surfels.scales, third], dim=1)
        _, means2d, _, transforms, normals = module._fully_fused_projection_2dgs(
            surfels.means, surfels.rotations, scales, view, intrinsics, *size
        )
        colors = torch.cat([surfels.colors, surfels.features], dim=1)[None]
        opacities = surfels.opacities[None, :, 0]
        result: tuple[Tensor, ...] = module.accumulate_2dgs(
            means2d, transforms, opacities, colors, normals, splat, pixel, image, *size
        )
        return result

    return render
