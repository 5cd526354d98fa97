# SPDX-License-Identifier: Apache-2.0
"""The normal loss by the CUDA kernels on the host shim, against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization.losses import normal_loss
from tests.rasterizer import cuda_host
from tests.rasterizer.losses.normal_cases import (
    assert_agree,
    by_definition,
    leaves,
    make_images,
    make_settings,
    with_gradients,
)


def found(size: tuple[int, int], ratio: float) -> list[Tensor]:
    images = leaves(make_images(*size))
    loss = normal_loss(images, make_settings(*size), ratio)
    with torch.no_grad():
        assert torch.equal(normal_loss(images, make_settings(*size), ratio), loss)
    return with_gradients(loss, images, ratio)


# No inside, less than a tile, a tile, a tile and a pixel, several tiles.
@pytest.mark.parametrize("ratio", [0.0, 0.3])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 7), (8, 32), (9, 33), (20, 70)])
def test_value_and_gradients(kernels, size, ratio):
    double = leaves(make_images(*size), torch.float64)
    expected = with_gradients(by_definition(double, make_settings(*size), ratio), double, ratio)
    forward = found(size, ratio)
    assert_agree(forward, expected)
    with cuda_host.reversed_schedule():
        again = found(size, ratio)
    assert all(torch.equal(a, b) for a, b in zip(forward, again, strict=True))
