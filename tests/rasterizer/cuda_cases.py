# SPDX-License-Identifier: Apache-2.0
"""Scenes that the CUDA kernels must get right, on the host shim and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import RasterSettings, Splats, available_backends
from tests.rasterizer.scenes import (
    crossing_splats,
    detached,
    make_view,
    random_ellipsoids,
    random_surfels,
)

Case = tuple[Splats, RasterSettings]
Make = Callable[..., Splats]

# Marks of the tests that need a GPU.
ON_A_GPU = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        "cuda" not in available_backends(),
        reason="needs an NVIDIA GPU and a build with CUDA: bash scripts/setup.sh on such a machine",
    ),
]


def _opaque(make: Make, count: int, seed: int) -> Splats:
    splats = detached(make(count, seed=seed, log_scale=(-1.0, 0.5)))
    return replace(splats, opacities=torch.full_like(splats.opacities, 0.97))


def _faint(make: Make, count: int) -> Splats:
    """Tile lists longer than several batches of any kernel."""
    splats = detached(make(count, seed=6, log_scale=(-2.0, -1.0)))
    return replace(splats, opacities=0.02 * splats.opacities + 0.004)


def _beside_the_view(make: Make) -> Splats:
    splats = detached(make(300, seed=8))
    spread = torch.tensor([4.0, 4.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    return replace(splats, means=splats.means * spread - shift)


def _few(make: Make, count: int) -> Splats:
    splats = detached(make(20, seed=10, log_scale=(-1.0, 0.0)))
    return type(splats)(**{k: None if v is None else v[:count] for k, v in vars(splats).items()})


def needles(count: int) -> Splats:
    """Ellipsoids a hundred times as long as thick, and some discs."""
    splats = detached(random_ellipsoids(count, seed=13, log_scale=(-1.5, 0.3)))
    thin = torch.tensor([[1.0, 0.01, 0.01], [1.0, 1.0, 0.001]]).repeat(count // 2, 1).double()
    return replace(splats, scales=splats.scales * thin)


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
    "saturated": lambda: (_opaque(random_surfels, 300, seed=5), make_view(64, 48)),
    "long_tiles": lambda: (_faint(random_surfels, 1500), make_view(20, 18)),
    "across_the_camera": lambda: (
        random_surfels(60, seed=7, log_scale=(0.5, 2.0), depth=(0.5, 3.0)),
        make_view(32, 24),
    ),
    "thin_across_the_camera": lambda: (crossing_splats(1, 0.5), make_view(48, 35)),
    "beside_the_view": lambda: (_beside_the_view(random_surfels), make_view(40, 30)),
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
    "one_splat": lambda: (_few(random_surfels, 1), make_view(20, 15)),
    "no_splats": lambda: (_few(random_surfels, 0), make_view(20, 15)),
}
# No feature; less than a pass of channels; whole passes; a pass and a rest; several passes.
for _channels in (0, 1, 2, 10, 16, 18, 19, 43, 60):
    CASES[f"channels_{_channels}"] = lambda channels=_channels: (
        random_surfels(150, seed=2, channels=channels),
        make_view(30, 21),
    )
CASES |= {
    "ellipsoids": lambda: (
        random_ellipsoids(250, seed=1, log_scale=(-4.0, -1.0)),
        make_view(48, 35),
    ),
    "ellipsoids_of_no_size": lambda: (
        random_ellipsoids(250, seed=1, log_scale=(-8.0, -5.0)),
        make_view(48, 35),
    ),
    "ellipsoids_saturated": lambda: (_opaque(random_ellipsoids, 300, seed=5), make_view(64, 48)),
    "ellipsoids_long_tiles": lambda: (_faint(random_ellipsoids, 1500), make_view(20, 18)),
    "ellipsoids_beside_the_view": lambda: (_beside_the_view(random_ellipsoids), make_view(40, 30)),
    "ellipsoids_around_the_camera": lambda: (
        random_ellipsoids(60, seed=7, log_scale=(0.5, 2.0), depth=(0.3, 3.0)),
        make_view(32, 24),
    ),
    "ellipsoids_harmonics": lambda: (
        random_ellipsoids(150, seed=3, sh_degree=3),
        make_view(30, 21, sh_degree=3),
    ),
    "ellipsoids_scale_modifier": lambda: (
        random_ellipsoids(200, seed=9),
        make_view(40, 30, scale_modifier=0.6, cx=55.0, cy=-8.0),
    ),
    "ellipsoids_ragged": lambda: (
        random_ellipsoids(200, seed=4, log_scale=(-2.0, 0.0)),
        make_view(17, 33),
    ),
    "needles": lambda: (needles(200), make_view(48, 35)),
    "one_ellipsoid": lambda: (_few(random_ellipsoids, 1), make_view(20, 15)),
    "no_ellipsoids": lambda: (_few(random_ellipsoids, 0), make_view(20, 15)),
}
for _channels in (0, 1, 18, 60):
    CASES[f"ellipsoids_channels_{_channels}"] = lambda channels=_channels: (
        random_ellipsoids(150, seed=2, channels=channels),
        make_view(30, 21),
    )
