# SPDX-License-Identifier: Apache-2.0
"""Small random splat scenes and views that the rasterizer's tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from diff_surfel_rasterization import Ellipsoids, RasterOutput, RasterSettings, Splats, Surfels

IMAGES = ("color", "features", "alpha", "depth", "median_depth", "normal", "distortion")
Kind = TypeVar("Kind", bound=Splats)

TRAINABLE = ("means", "scales", "rotations", "opacities", "colors", "sh", "features")


def random_splats(
    kind: type[Splats],
    n: int,
    seed: int,
    log_scale: tuple[float, float] = (-3.0, -1.0),
    depth: tuple[float, float] = (1.5, 5.0),
    channels: int = 3,
    sh_degree: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Splats:
    """Splats spread over the view of `make_view`, rotations uniform, gradients on."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    z = depth[0] + (depth[1] - depth[0]) * uniform(n, 1)
    sideways = (uniform(n, 2) - 0.5) * z * 0.9
    low, high = log_scale
    tensors = {
        "means": torch.cat([sideways, z], dim=1),
        "scales": torch.exp(low + (high - low) * uniform(n, kind.SCALES)),
        "rotations": torch.randn(n, 4, generator=generator, dtype=torch.float64),
        "opacities": 0.1 + 0.85 * uniform(n, 1),
        "features": torch.randn(n, channels, generator=generator, dtype=torch.float64),
        "screen_grad": torch.zeros(n, 3, dtype=torch.float64),
        "screen_grad_abs": torch.zeros(n, 3, dtype=torch.float64),
    }
    if sh_degree is None:
        tensors["colors"] = uniform(n, 3)
    else:
        size = (n, (sh_degree + 1) ** 2, 3)
        tensors["sh"] = 0.8 * torch.randn(size, generator=generator, dtype=torch.float64)
    # Rounded to float32 first, so that every dtype renders the same scene.
    rounded = {k: v.float().to(dtype).requires_grad_() for k, v in tensors.items()}
    return kind(**rounded)


random_surfels: Callable[..., Surfels] = partial(random_splats, Surfels)  # type: ignore[assignment]
random_ellipsoids: Callable[..., Ellipsoids] = partial(  # type: ignore[assignment]
    random_splats, Ellipsoids
)


def make_view(width: int = 24, height: int = 18, **changes: object) -> RasterSettings:
    """A view along z, slightly turned and moved, with an off-centre principal point."""
    angle = torch.tensor(0.1, dtype=torch.float64)
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0] = turn[2, 2] = torch.cos(angle)
    turn[0, 2], turn[2, 0] = torch.sin(angle), -torch.sin(angle)
    turn[:3, 3] = torch.tensor([-0.3, 0.05, 0.1])
    settings = RasterSettings(
        width=width,
        height=height,
        fx=1.1 * width,
        fy=1.0 * width,
        cx=0.5 * width + 1.3,
        cy=0.5 * height - 0.7,
        world_to_view=turn,
        background=torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64),
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def fronto_parallel(
    z: float, scale: float, opacity: float, color: float = 1.0
) -> dict[str, Tensor]:
    """One splat on the optical axis that faces a camera at the origin, as rows to `stack`."""
    rows = {
        "means": [0.0, 0.0, z],
        "scales": [scale, scale],
        "rotations": [1.0, 0.0, 0.0, 0.0],
        "opacities": [opacity],
        "colors": [color] * 3,
    }
    return {name: torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}


def stack(*splats: dict[str, Tensor]) -> Surfels:
    """Splats from rows."""
    return Surfels(**{k: torch.stack([s[k].double() for s in splats]) for k in splats[0]})


def map_tensors(splats: Kind, change: object) -> Kind:
    """The same splats with `change` applied to every tensor."""
    given = {f.name: getattr(splats, f.name) for f in fields(splats)}
    changed = {k: None if v is None else change(v) for k, v in given.items()}  # type: ignore
    return type(splats)(**changed)


def detached(splats: Kind, dtype: torch.dtype = torch.float64) -> Kind:
    """A copy without gradients."""
    return map_tensors(splats, lambda t: t.detach().clone().to(dtype))


def random_loss(output: RasterOutput, seed: int, names: tuple[str, ...] = IMAGES) -> Tensor:
    """A fixed random linear function of the named images."""
    generator = torch.Generator().manual_seed(seed)
    total = output.alpha.new_zeros(())
    for name in names:
        image = getattr(output, name)
        weight = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        total = total + (image * weight.to(image)).sum()
    return total


def crossing_splats(seed: int, opacity: float) -> Surfels:
    """150 splats as large as their distance, half of them thin: most cross the camera plane."""
    surfels = random_surfels(150, seed=seed, log_scale=(-0.5, 1.5), depth=(0.2, 2.0))
    thin = torch.where(torch.arange(150) % 2 == 0, 0.02, 1.0)[:, None].to(surfels.scales)
    scales = torch.cat([surfels.scales[:, :1] * thin, surfels.scales[:, 1:]], dim=1)
    opacities = torch.full_like(surfels.opacities, opacity)
    return detached(replace(surfels, scales=scales, opacities=opacities), torch.float32)
