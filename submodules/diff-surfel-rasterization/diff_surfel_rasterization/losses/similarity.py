# SPDX-License-Identifier: Apache-2.0
"""Structural similarity in plain torch: any floating type, any device, differentiable in both."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .checks import check_image_pair

# Wang et al. 2004, as everyone since: 11 pixels, sigma 1.5, K1 = .01, K2 = .03 at a range of 1.
# csrc/losses/image_math.h holds the same numbers (tested).
SSIM_RADIUS = 5
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2
_BELL = [math.exp(-(x**2) / (2.0 * SSIM_SIGMA**2)) for x in range(-SSIM_RADIUS, SSIM_RADIUS + 1)]
SSIM_WINDOW = [value / sum(_BELL) for value in _BELL]
_SHIFTS = [(shift, weight) for shift, weight in enumerate(SSIM_WINDOW) if shift != SSIM_RADIUS]


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity at each pixel of two images [C, H, W]; first derivatives only.

    Gaussian window, zeros outside the image, population covariance.

    Raises:
        ValueError: the images differ in shape, type or device.
    """
    check_image_pair("ssim_map", image, target)
    result: Tensor = _SsimMap.apply(image, target)
    return result


class _SsimMap(torch.autograd.Function):
    """SSIM with its gradient written out.

    SSIM needs the variances only as a sum, so four blurs a channel go forward and three backward
    (the blur is its own adjoint), where autograd through the definition takes five and five.
    Notation: m, n local means of x, y; s = blur(x^2 + y^2), p = blur(xy);
    SSIM = a1 a2 / (b1 b2), a1 = 2mn + C1, b1 = m^2 + n^2 + C1,
    a2 = 2(p - mn) + C2, b2 = s - m^2 - n^2 + C2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        moments = _blur(torch.cat((x, y, (x * x).addcmul_(y, y), x * y)))
        ctx.save_for_backward(x, y, moments)
        a1, a2, b1, b2 = _factors(moments)
        return a1.mul_(a2).div_(b1.mul_(b2))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y, moments = ctx.saved_tensors
        m, n, _, _ = moments.chunk(4)
        a1, a2, b1, b2 = _factors(moments)
        scale = 2.0 * grad / (b1 * b2)
        by_a1, by_a2 = scale * a2, scale * a1  # twice the derivatives, here and below
        product = a1.mul_(by_a1).neg_()
        by_b1, by_b2 = product / b1, product / b2
        by_products, by_squares = by_a1.sub_(by_a2), by_b1.sub_(by_b2)
        needs_x, needs_y = ctx.needs_input_grad
        by_means = []
        if needs_x:
            by_means.append((n * by_products).addcmul_(m, by_squares))
        if needs_y:
            by_means.append((m * by_products).addcmul_(n, by_squares))
        by_p, by_2s, *means = _blur(torch.cat((by_a2, by_b2, *by_means))).chunk(2 + len(by_means))
        grads = iter(means)
        grad_x = next(grads).addcmul_(x, by_2s).addcmul_(y, by_p) if needs_x else None
        grad_y = next(grads).addcmul_(y, by_2s).addcmul_(x, by_p) if needs_y else None
        return grad_x, grad_y


def _factors(moments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    m, n, s, p = moments.chunk(4)
    mean_product = m * n
    mean_squares = (m * m).addcmul_(n, n)
    a2 = (p - mean_product).mul_(2.0).add_(SSIM_C2)
    b2 = (s - mean_squares).add_(SSIM_C2)
    return mean_product.mul_(2.0).add_(SSIM_C1), a2, mean_squares.add_(SSIM_C1), b2


def _blur(maps: Tensor) -> Tensor:
    """Separable Gaussian of each map of [K, H, W], zeros outside.

    Shifted sums rather than convolutions: they need one scratch image, where the depthwise
    convolution's buffers cost more in page faults than its arithmetic on a CPU.
    """
    height, width = maps.shape[1:]
    padded = torch.nn.functional.pad(maps, (SSIM_RADIUS,) * 4)
    rows = padded[:, :, SSIM_RADIUS : SSIM_RADIUS + width] * SSIM_WINDOW[SSIM_RADIUS]
    for shift, weight in _SHIFTS:
        rows.add_(padded[:, :, shift : shift + width], alpha=weight)
    columns = rows[:, SSIM_RADIUS : SSIM_RADIUS + height] * SSIM_WINDOW[SSIM_RADIUS]
    for shift, weight in _SHIFTS:
        columns.add_(rows[:, shift : shift + height], alpha=weight)
    return columns
