# SPDX-License-Identifier: Apache-2.0
"""What a training step does to all splats by the CUDA kernels on the host shim."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization.training import activate_splats
from tests.rasterizer.training.splat_cases import (
    assert_agree,
    leaves,
    make_raw,
    plain,
    with_gradients,
)
from tests.rasterizer.training.test_splats import signals


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("scales", [2, 3])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_values_and_gradients(kernels, count, scales, degree):
    double = leaves(make_raw(count, scales), torch.float64)
    expected = with_gradients(plain(double, (degree + 1) ** 2), double)
    single = leaves(make_raw(count, scales), torch.float32)
    assert_agree(with_gradients(activate_splats(*single, degree), single), expected)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_signals(kernels, count):
    expected = signals(count, "reference")
    for got, want in zip(signals(count), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=3e-7, atol=0)
