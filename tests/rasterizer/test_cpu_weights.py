# SPDX-License-Identifier: Apache-2.0
"""Blending weights of the native backend: the same table as the reference, the same images."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization import available_backends
from diff_surfel_rasterization.reference import blend_weights_reference, splat_weights_reference
from tests.rasterizer.scenes import detached, make_view, random_ellipsoids, random_surfels

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)

from diff_surfel_rasterization.native import (  # noqa: E402
    blend_weights_cpu,
    rasterize_cpu,
    splat_weights_cpu,
)


@pytest.fixture(scope="module", params=[random_surfels, random_ellipsoids])
def scene(request):
    return detached(request.param(300, seed=41, channels=7), torch.float32), make_view(37, 29)


@pytest.mark.parametrize("min_weight", [0.0, 0.02, 0.3])
def test_table_equals_the_references(scene, min_weight):
    surfels, view = scene
    found = blend_weights_cpu(surfels, view, min_weight)
    expected = blend_weights_reference(detached(surfels), view, min_weight)
    assert torch.equal(found.row_start, expected.row_start)
    assert torch.equal(found.splat, expected.splat)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-6)
    assert found.n_splats == 300


def test_all_weights_give_the_rasterized_image(scene):
    surfels, view = scene
    image = splat_weights_cpu(blend_weights_cpu(surfels, view), None, surfels.features)
    expected = rasterize_cpu(surfels, view).features
    torch.testing.assert_close(image.T.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [0, 1, 16, 35])
@pytest.mark.parametrize("rows", [None, [], [5, 5, 700, 0, 1072]])
def test_values_and_gradients(scene, rows, channels):
    weights = blend_weights_cpu(*scene)
    chosen = None if rows is None else torch.tensor(rows, dtype=torch.int64)
    start = torch.randn(300, channels, generator=torch.Generator().manual_seed(1))
    native, exact = start.clone().requires_grad_(), start.double().requires_grad_()
    found = splat_weights_cpu(weights, chosen, native)
    expected = splat_weights_reference(weights, chosen, exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    found.backward(upstream)
    expected.backward(upstream.double())
    torch.testing.assert_close(native.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


def test_no_splat_at_all(scene):
    surfels, view = scene
    empty = type(surfels)(**{k: v if v is None else v[:0] for k, v in vars(surfels).items()})
    weights = blend_weights_cpu(empty, view)
    assert len(weights.weight) == 0 and int(weights.row_start[-1]) == 0
    assert splat_weights_cpu(weights, None, torch.zeros(0, 3)).shape == (37 * 29, 3)
