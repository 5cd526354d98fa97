# SPDX-License-Identifier: Apache-2.0
"""gsplat's CUDA 2DGS as a candidate, called through its public functions, never copied.

Written against gsplat 1.5.3. Two ways to call it are timed:

- "kernels": its projection, tile intersection and rasterization, one after the other, on inputs
  already in the form that it wants. This is the least that it can cost.
- "rasterization_2dgs": the function as people call it, with depth ("RGB+D"). It also makes normals
  from depth, turns the rendered normals to the world, and checks two matrix inverses.

Both render what ours does: channels and depth (of the splat's centre, blended), alpha, normals,
distortion and the median depth, and blend nothing behind.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from diff_surfel_rasterization import RasterSettings, Surfels
from tests.benchmarks.timing import Candidate

TILE = 16
FAR = 1e10  # gsplat's default: nothing is cut off
HOW_TO_BUILD = (
    "pip install --no-deps -r tests/benchmarks/requirements.txt ninja; with nvcc of torch's CUDA "
    "on the PATH gsplat compiles itself at the first import, in minutes, and "
    "VERBOSE=1 python -c 'import gsplat.cuda._backend' shows how"
)


def load() -> tuple[ModuleType | None, str]:
    """(gsplat with its kernels compiled, "") or (None, the reason)."""
    try:
        module = importlib.import_module("gsplat")
        backend = importlib.import_module("gsplat.cuda._backend")
    except (ImportError, OSError, RuntimeError, AttributeError, TypeError) as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        return None, f"gsplat cannot be used: {type(error).__name__}: {first} ({HOW_TO_BUILD})"
    if getattr(backend, "_C", None) is None:
        return None, f"gsplat found no CUDA toolkit to compile its kernels with ({HOW_TO_BUILD})"
    return module, ""


@dataclass(frozen=True)
class Inputs:
    """The scene in the form that gsplat wants; the first five are leaves."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] wxyz
    scales: Tensor  # [N, 3], the third is not looked at
    opacities: Tensor  # [N]
    colors: Tensor  # [1, N, D], one camera
    viewmats: Tensor  # [1, 4, 4]
    intrinsics: Tensor  # [1, 3, 3]
    width: int
    height: int
    near: float

    @property
    def leaves(self) -> list[Tensor]:
        return [self.means, self.quats, self.scales, self.opacities, self.colors]


def to_inputs(surfels: Surfels, settings: RasterSettings) -> Inputs:
    """Copies of the splats' tensors as leaves, on the device of the splats."""
    assert surfels.colors is not None
    channels = [surfels.colors] if surfels.features is None else [surfels.colors, surfels.features]
    third = torch.ones_like(surfels.opacities)

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().contiguous().requires_grad_()

    like = surfels.means.detach()
    rows = [[settings.fx, 0.0, settings.cx], [0.0, settings.fy, settings.cy], [0.0, 0.0, 1.0]]
    return Inputs(
        means=leaf(surfels.means),
        quats=leaf(surfels.rotations),
        scales=leaf(torch.cat([surfels.scales, third], dim=1)),
        opacities=leaf(surfels.opacities[:, 0]),
        colors=leaf(torch.cat(channels, dim=1)[None]),
        viewmats=settings.world_to_view.to(like)[None].contiguous(),
        intrinsics=like.new_tensor(rows)[None],
        width=settings.width,
        height=settings.height,
        near=settings.near,
    )


Images = tuple[Tensor, ...]


def render_kernels(gsplat: ModuleType, scene: Inputs) -> Images:
    """(channels and depth [1, H, W, D + 1], alpha, normals, distortion), channel last."""
    size = scene.width, scene.height
    radii, means2d, depths, transforms, normals = gsplat.fully_fused_projection_2dgs(
        scene.means,
        scene.quats,
        scene.scales,
        scene.viewmats,
        scene.intrinsics,
        *size,
        near_plane=scene.near,
        far_plane=FAR,
    )
    columns, rows = -(-scene.width // TILE), -(-scene.height // TILE)
    _, pairs, splats = gsplat.isect_tiles(means2d, radii, depths, TILE, columns, rows)
    starts = gsplat.isect_offset_encode(pairs, 1, columns, rows)
    colors, alpha, normal, distortion, _ = gsplat.rasterize_to_pixels_2dgs(
        means2d,
        transforms,
        torch.cat([scene.colors, depths[..., None]], dim=-1),
        scene.opacities[None],
        normals,
        torch.zeros_like(means2d, requires_grad=True),  # gsplat's carrier of the screen gradient
        *size,
        TILE,
        starts,
        splats,
        distloss=True,
    )
    return colors, alpha, normal, distortion


def render_whole(gsplat: ModuleType, scene: Inputs) -> Images:
    """The same images from the one function that people call."""
    colors, alpha, normal, _, distortion, _, _ = gsplat.rasterization_2dgs(
        scene.means,
        scene.quats,
        scene.scales,
        scene.opacities,
        scene.colors,
        scene.viewmats,
        scene.intrinsics,
        scene.width,
        scene.height,
        near_plane=scene.near,
        far_plane=FAR,
        tile_size=TILE,
        render_mode="RGB+D",
        distloss=True,
    )
    return colors, alpha, normal, distortion


def candidates(
    gsplat: ModuleType, surfels: Surfels, settings: RasterSettings, suffix: str, repeats: int
) -> list[Candidate]:
    """Both ways to call gsplat on these splats; `suffix` ends their names."""
    scene = to_inputs(surfels, settings)
    ways = {"kernels": render_kernels, "rasterization_2dgs": render_whole}
    return [
        Candidate(
            f"gsplat {name}{suffix}", partial(render, gsplat, scene), scene.leaves, 1, repeats
        )
        for name, render in ways.items()
    ]
