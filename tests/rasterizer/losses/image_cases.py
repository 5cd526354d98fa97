# SPDX-License-Identifier: Apache-2.0
"""Pairs of images, weights, and the slow obvious version of the image loss."""

from __future__ import annotations

import torch
from torch import Tensor

# Height and width: less than a window, than a vector, than a part of the work, and more.
SIZES = [(1, 1), (7, 5), (40, 16), (33, 47), (21, 530), (3, 1100)]


def make_pair(height: int, width: int, channels: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth picture with noise, some pixels of which are equal, and the picture; float32."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 4, 5, generator=generator)
    target = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    noise = 0.1 * torch.randn(target.shape, generator=generator)
    return target + noise * (torch.rand(target.shape, generator=generator) < 0.8), target


def make_weight(height: int, width: int) -> Tensor:
    """Weights of 0 to 2 with holes, in patches and alone; float32 [H, W]."""
    generator = torch.Generator().manual_seed(5)
    weight = 2.0 * torch.rand(height, width, generator=generator)
    weight[torch.rand(height, width, generator=generator) < 0.2] = 0.0
    weight[: height // 3, : width // 4] = 0.0
    weight[-1, -1] = 1.0
    return weight


def ssim_by_definition(image: Tensor, target: Tensor) -> Tensor:
    """Windows gathered one by one, variances from deviations; [C, H, W], zeros outside."""
    offsets = torch.arange(-5, 6, dtype=image.dtype)
    bell = torch.exp(-offsets.square() / (2 * 1.5**2))
    weight = torch.outer(bell, bell).flatten()
    weight = weight / weight.sum()

    def windows(x: Tensor) -> Tensor:
        columns = torch.nn.functional.unfold(x[:, None], 11, padding=5)
        return columns.view(x.shape[0], 121, *x.shape[1:])

    def average(x: Tensor) -> Tensor:
        return (weight[None, :, None, None] * x).sum(1)

    x, y = windows(image), windows(target)
    m, n = average(x), average(y)
    dx, dy = x - m[:, None], y - n[:, None]
    covariance = average(dx * dy)
    similarity = (2 * m * n + 1e-4) * (2 * covariance + 9e-4)
    return similarity / ((m * m + n * n + 1e-4) * (average(dx * dx) + average(dy * dy) + 9e-4))


def plain(image: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """L1 and 1 - SSIM by definition: windows gathered one by one, zeros outside."""
    share = torch.ones(image.shape[1:]) if weight is None else weight
    share = share.to(image.dtype)
    inside = (share > 0).to(image.dtype)
    similarity = ssim_by_definition(image * inside, target * inside)
    total = len(image) * share.sum()
    l1 = ((image - target).abs() * share).sum() / total
    return l1, 1.0 - (similarity * share).sum() / total


def with_gradient(losses: tuple[Tensor, Tensor], image: Tensor) -> tuple[Tensor, ...]:
    """Both losses, and the gradients of each and of a weighted sum."""
    l1, dssim = losses
    total = 0.8 * l1 + 0.2 * dssim
    grads = [torch.autograd.grad(loss, image, retain_graph=True)[0] for loss in (l1, dssim, total)]
    return (l1, dssim, *grads)
