# SPDX-License-Identifier: Apache-2.0
"""The image loss by the CUDA kernels on the host shim, against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization.losses import image_loss
from tests.rasterizer import cuda_host
from tests.rasterizer.losses.image_cases import make_pair, make_weight, plain, with_gradient


def found(size: tuple[int, int], weight: Tensor | None) -> list[Tensor]:
    image, target = make_pair(*size)
    x = image.requires_grad_()
    return [t.detach() for t in with_gradient(image_loss(x, target, weight), x)]


# Less than a window, a tile, a tile and a pixel, several tiles.
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (4, 9), (16, 32), (17, 33), (50, 70)])
def test_values_and_gradients(kernels, size, weighted):
    image, target = make_pair(*size)
    weight = make_weight(*size) if weighted else None
    double = image.double().requires_grad_()
    expected = with_gradient(plain(double, target.double(), weight), double)
    forward = found(size, weight)
    for got, want in zip(forward, expected, strict=True):
        assert (got.double() - want).norm() <= 2e-5 * want.norm() + 3e-7
    with cuda_host.reversed_schedule():
        again = found(size, weight)
    assert all(torch.equal(a, b) for a, b in zip(forward, again, strict=True))


def test_numbers_outside_go_nowhere(kernels):
    image, target = make_pair(20, 40)
    weight = make_weight(20, 40)
    outside = weight == 0
    x = image.clone()
    x[:, outside] = float("inf")
    x.requires_grad_()
    strange = torch.where(outside, float("nan"), target)
    results = with_gradient(image_loss(x, strange, weight), x)
    for got, want in zip(results, found((20, 40), weight), strict=True):
        assert torch.equal(got, want)


def test_no_weight_and_no_gradient(kernels):
    image, target = make_pair(20, 40)
    learning = found((20, 40), None)[:2]
    for got, want in zip(image_loss(image, target), learning, strict=True):
        assert torch.equal(got, want) and not got.requires_grad
    x = image.requires_grad_()
    l1, dssim = image_loss(x, target, torch.zeros(20, 40))
    assert l1.item() == dssim.item() == 0.0
    (l1 + dssim).backward()
    assert x.grad is not None and not x.grad.any()
