# SPDX-License-Identifier: Apache-2.0
"""Rendered images for the normal loss, and its slow obvious version: one pixel after another."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diff_surfel_rasterization import RasterOutput, RasterSettings

# Height and width: no inside, one pixel of it, less than a vector, vectors and a rest, more.
SIZES = [(1, 1), (2, 7), (3, 3), (9, 5), (18, 16), (33, 47), (70, 130)]
LEARNING = ("normal", "depth", "alpha", "median_depth")


def make_settings(height: int, width: int) -> RasterSettings:
    """An off-centre pinhole; the pose has no say in the loss."""
    return RasterSettings(
        width=width,
        height=height,
        fx=0.9 * width,
        fy=1.1 * width,
        cx=0.45 * width,
        cy=0.6 * height,
        world_to_view=torch.eye(4),
        background=torch.zeros(3),
    )


def make_images(height: int, width: int, seed: int = 0) -> RasterOutput:
    """A bumpy surface with noise, seen through alpha that is zero in places; float32."""
    g = torch.Generator().manual_seed(seed)

    def smooth(channels: int) -> Tensor:
        coarse = torch.rand(1, channels, 4, 5, generator=g)
        return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]

    alpha = smooth(1)
    alpha[:, torch.rand(height, width, generator=g) < 0.1] = 0.0
    depth = 2.0 + smooth(1) + 0.02 * torch.rand(1, height, width, generator=g)
    towards = smooth(3) - torch.tensor([0.5, 0.5, 2.0])[:, None, None]
    normal = torch.nn.functional.normalize(towards, dim=0)
    nothing = torch.zeros(0, height, width)
    return RasterOutput(
        color=nothing,
        features=nothing,
        alpha=alpha,
        depth=alpha * depth,
        median_depth=depth + 0.01,
        normal=alpha * normal,
        distortion=nothing,
        radii=torch.zeros(0, dtype=torch.int32),
    )


def leaves(
    images: RasterOutput, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> RasterOutput:
    """Copies of the images that are read, which learn."""
    copies = {
        name: getattr(images, name).detach().to(device, dtype, copy=True).requires_grad_()
        for name in LEARNING
    }
    return replace(images, **copies)


def by_definition(images: RasterOutput, settings: RasterSettings, ratio: float) -> Tensor:
    """Pixel by pixel."""
    height, width = images.alpha.shape[1:]

    def point(x: int, y: int) -> Tensor:
        alpha, total = images.alpha[0, y, x], images.depth[0, y, x]
        depth = (1 - ratio) * total / alpha.clamp_min(torch.finfo(torch.float32).eps)
        depth = depth + ratio * images.median_depth[0, y, x]
        ray_x = (x + 0.5 - settings.cx) / settings.fx
        ray_y = (y + 0.5 - settings.cy) / settings.fy
        return torch.stack([ray_x * depth, ray_y * depth, depth])

    agreement = torch.zeros((), dtype=images.alpha.dtype)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            down = point(x, y + 1) - point(x, y - 1)
            right = point(x + 1, y) - point(x - 1, y)
            normal = torch.linalg.cross(down, right)
            length = normal.norm().clamp_min(1e-12)
            alpha = images.alpha[0, y, x].detach()
            agreement = agreement + alpha * (images.normal[:, y, x] @ normal) / length
    return 1 - agreement / (height * width)


def with_gradients(loss: Tensor, images: RasterOutput, ratio: float) -> list[Tensor]:
    """The loss, and its gradients by the images that have a say."""
    used = [getattr(images, name) for name in (LEARNING if ratio else LEARNING[:3])]
    if not loss.requires_grad:  # no pixel has a normal
        return [loss, *map(torch.zeros_like, used)]
    grads = torch.autograd.grad(loss, used, allow_unused=True)
    zeros = map(torch.zeros_like, used)
    return [loss.detach(), *(z if g is None else g for g, z in zip(grads, zeros, strict=True))]


def assert_agree(found: list[Tensor], expected: list[Tensor]) -> None:
    """To single precision: values by the loss, gradients by their size."""
    assert abs(found[0].item() - expected[0].item()) <= 2e-7 * max(1.0, abs(expected[0].item()))
    for got, want in zip(found[1:], expected[1:], strict=True):
        assert (got.cpu().double() - want.double()).norm() <= 2e-5 * want.double().norm() + 1e-12
