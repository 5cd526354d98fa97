# SPDX-License-Identifier: Apache-2.0
"""Scenes that every benchmark row renders: fixed seeds, fixed sizes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diff_surfel_rasterization import Ellipsoids, RasterSettings, Surfels

FEATURES = 16
# Of ellipsoids made of discs: with this they have as many contributions. The dilation widens every
# ellipsoid, the low-pass only discs that are smaller than itself.
ELLIPSOID_SIZE = 0.775


@dataclass(frozen=True)
class SceneSize:
    """What a scene is called and how large it is."""

    name: str
    width: int
    height: int
    splats: int
    pixel_scale: float  # median standard deviation on screen, pixels


# The gate on a CPU, and the one on a GPU: about 22 contributions a pixel.
STANDARD = SceneSize("640x426, 200k", 640, 426, 200_000, 1.2)
LARGE = SceneSize("1600x1060, 1M", 1600, 1060, 1_000_000, 1.36)
QUICK = SceneSize("96x64, 2k", 96, 64, 2_000, 2.0)


def morton_order(pixels: Tensor) -> Tensor:
    """Order [N] of points [N, 2] (non-negative, < 65536) along a z-curve."""
    code = torch.zeros(len(pixels), dtype=torch.int64)
    x, y = pixels.long().clamp(0, 65535).unbind(1)
    for bit in range(16):
        code |= ((x >> bit) & 1) << (2 * bit)
        code |= ((y >> bit) & 1) << (2 * bit + 1)
    return torch.argsort(code, stable=True)


def make_scene(
    size: SceneSize,
    seed: int = 0,
    ordered: bool = True,
    features: int = FEATURES,
    device: str = "cpu",
) -> Surfels:
    """Splats spread evenly over the image and in depth, any orientation, float32.

    `ordered` sorts them along a z-curve of the image, as training code may; otherwise the order
    is random, which is harder on caches. Random numbers are drawn on the CPU, so the scene is the
    same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    count = size.splats

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    settings = make_settings(size)
    pixels = uniform(count, 2) * torch.tensor([size.width, size.height])
    depth = 1.5 + 4.5 * uniform(count, 1)
    rays = (pixels - torch.tensor([settings.cx, settings.cy])) / settings.fx
    spread = size.pixel_scale / settings.fx * depth
    tensors = {
        "means": torch.cat([rays * depth, depth], dim=1),
        "scales": spread * torch.exp(0.5 * normal(count, 2)),
        "rotations": normal(count, 4),
        "opacities": 0.05 + 0.55 * uniform(count, 1),
        "colors": uniform(count, 3),
        "features": normal(count, features),
    }
    if features == 0:
        del tensors["features"]
    order = morton_order(pixels) if ordered else torch.arange(count)
    placed = {name: tensor[order].to(device).contiguous() for name, tensor in tensors.items()}
    return Surfels(**{name: tensor.requires_grad_() for name, tensor in placed.items()})


def make_ellipsoids(surfels: Surfels, size: float = ELLIPSOID_SIZE) -> Ellipsoids:
    """The discs, `size` times as large, with a third scale, half the smaller of the two."""
    tensors = {f.name: getattr(surfels, f.name) for f in fields(surfels)}
    scales = size * surfels.scales
    tensors["scales"] = torch.cat([scales, scales.amin(dim=1, keepdim=True) / 2], dim=1)
    leaves = {k: None if v is None else v.detach().requires_grad_() for k, v in tensors.items()}
    return Ellipsoids(**leaves)


def make_settings(size: SceneSize) -> RasterSettings:
    """A camera at the origin that looks along z over a black background."""
    return RasterSettings(
        width=size.width,
        height=size.height,
        fx=0.9 * size.width,
        fy=0.9 * size.width,
        cx=size.width / 2,
        cy=size.height / 2,
        world_to_view=torch.eye(4),
        background=torch.zeros(3),
    )
