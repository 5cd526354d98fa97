# SPDX-License-Identifier: Apache-2.0
"""Scenes that the CUDA kernels must get right, on the host shim and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import RasterSettings, Surfels, available_backends
from tests.rasterizer.scenes import crossing_splats, detached, make_view, random_surfels

Case = tuple[Surfels, RasterSettings]

# Marks of the tests that need a GPU.
ON_A_GPU = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        "cuda" not in available_backends(),
        reason="needs an NVIDIA GPU and a build with CUDA: bash scripts/setup.sh on such a machine",
    ),
]


def _opaque(count: int, seed: int) -> Surfels:
    surfels = detached(random_surfels(count, seed=seed, log_scale=(-1.0, 0.5)))
    return replace(surfels, opacities=torch.full_like(surfels.opacities, 0.97))


def _faint(count: int) -> Surfels:
    """Tile lists longer than several batches of any kernel."""
    surfels = detached(random_surfels(count, seed=6, log_scale=(-2.0, -1.0)))
    return replace(surfels, opacities=0.02 * surfels.opacities + 0.004)


def _beside_the_view() -> Surfels:
    surfels = detached(random_surfels(300, seed=8))
    spread = torch.tensor([4.0, 4.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    return replace(surfels, means=surfels.means * spread - shift)


def _few(count: int) -> Surfels:
    surfels = detached(random_surfels(20, seed=10, log_scale=(-1.0, 0.0)))
    return Surfels(**{k: None if v is None else v[:count] for k, v in vars(surfels).items()})


CASES: dict[str, Callable[[], Case]] = {
    "low_pass": lambda: (
        random_surfels(250, seed=1, log_scale=(-8.0, -5.0)),
        make_view(48, 35, low_pass_depth="center", low_pass_anchor="aabb"),
    ),
    "both_branches": lambda: (
        random_surfels(250, seed=1, log_scale=(-4.0, -1.0)),
        make_view(48, 35, low_pass_anchor="aabb"),
    ),
    "rays": lambda: (
        random_surfels(250, seed=1, log_scale=(-2.0, 0.0)),
        make_view(48, 35, low_pass_depth="center"),
    ),
    "saturated": lambda: (_opaque(300, seed=5), make_view(64, 48)),
    "long_tiles": lambda: (_faint(1500), make_view(20, 18)),
    "across_the_camera": lambda: (
        random_surfels(60, seed=7, log_scale=(0.5, 2.0), depth=(0.5, 3.0)),
        make_view(32, 24),
    ),
    "thin_across_the_camera": lambda: (crossing_splats(1, 0.5), make_view(48, 35)),
    "beside_the_view": lambda: (_beside_the_view(), make_view(40, 30)),
    "harmonics": lambda: (random_surfels(150, seed=3, sh_degree=3), make_view(30, 21, sh_degree=3)),
    "harmonics_of_less_degree": lambda: (
        random_surfels(150, seed=3, sh_degree=2),
        make_view(30, 21, sh_degree=1),
    ),
    "scale_modifier": lambda: (
        random_surfels(200, seed=9),
        make_view(40, 30, scale_modifier=0.6, cx=55.0, cy=-8.0),
    ),
    "one_pixel": lambda: (random_surfels(200, seed=4, log_scale=(-2.0, 0.0)), make_view(1, 1)),
    "ragged": lambda: (random_surfels(200, seed=4, log_scale=(-2.0, 0.0)), make_view(17, 33)),
    "one_splat": lambda: (_few(1), make_view(20, 15)),
    "no_splats": lambda: (_few(0), make_view(20, 15)),
}
# No feature; less than a pass of channels; whole passes; a pass and a rest; several passes.
for _channels in (0, 1, 2, 10, 16, 18, 19, 43, 60):
    CASES[f"channels_{_channels}"] = lambda channels=_channels: (
        random_surfels(150, seed=2, channels=channels),
        make_view(30, 21),
    )
