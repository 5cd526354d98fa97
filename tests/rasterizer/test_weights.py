# SPDX-License-Identifier: Apache-2.0
"""Blending weights as a table, and images from it."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization import (
    BlendWeights,
    RasterSettings,
    Surfels,
    blend_weights,
    rasterize,
    splat_weights,
)
from diff_surfel_rasterization.reference import splat_weights_reference
from tests.rasterizer.oracle import camera_splats, pixel_weights
from tests.rasterizer.scenes import detached, make_view, map_tensors, random_surfels


@pytest.fixture
def scene(host_backend: str) -> tuple[Surfels, RasterSettings, BlendWeights]:
    """Forty splats, their view and their weights in the type of the backend."""
    dtype = torch.float64 if host_backend == "reference" else torch.float32
    surfels = detached(random_surfels(40, seed=51, log_scale=(-2.5, -0.7)), dtype)
    settings = make_view(35, 19)
    return surfels, settings, blend_weights(surfels, settings, backend=host_backend)


def test_the_table_holds_the_weights_of_every_pixel_in_order(scene):
    surfels, settings, weights = scene
    splats = camera_splats(surfels, settings)
    assert weights.row_start.dtype == torch.int64 and weights.splat.dtype == torch.int32
    assert weights.weight.dtype == torch.float32 and weights.n_splats == 40
    assert int(weights.row_start[0]) == 0
    assert int(weights.row_start[-1]) == len(weights.splat) == len(weights.weight) > 1000
    for x, y in ((0, 0), (17, 9), (34, 18), (20, 3), (9, 15)):
        row = y * 35 + x
        part = slice(int(weights.row_start[row]), int(weights.row_start[row + 1]))
        expected = pixel_weights(splats, settings, (x, y))
        assert weights.splat[part].tolist() == [int(splats.order[e[0]]) for e in expected]
        assert weights.weight[part].tolist() == pytest.approx([e[1] for e in expected], abs=1e-5)


def test_blending_ones_gives_alpha_and_features_give_features(scene, host_backend):
    surfels, settings, weights = scene
    output = rasterize(surfels, settings, host_backend)
    ones = splat_weights(weights, None, torch.ones_like(surfels.opacities))
    assert float((ones.T.reshape(1, 19, 35) - output.alpha).abs().max()) < 1e-5
    features = splat_weights(weights, None, surfels.features)
    assert float((features.T.reshape(-1, 19, 35) - output.features).abs().max()) < 2e-5


def test_small_weights_can_be_left_out(scene, host_backend):
    surfels, settings, weights = scene
    strong = blend_weights(surfels, settings, min_weight=0.05, backend=host_backend)
    assert 0 < len(strong.weight) < len(weights.weight)
    assert float(strong.weight.min()) >= 0.05
    assert int((weights.weight >= 0.05).sum()) == pytest.approx(len(strong.weight), abs=2)


def test_rows_in_any_order_with_repetitions(scene):
    _, _, weights = scene
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([600, 3, 3, 664, 0, 321])
    whole = splat_weights(weights, None, values)
    torch.testing.assert_close(splat_weights(weights, rows, values), whole[rows])
    nothing = splat_weights(weights, rows[:0], values)
    assert nothing.shape == (0, 3)


@pytest.mark.parametrize("every", [True, False])
def test_gradient_is_the_transpose(scene, every):
    _, _, weights = scene
    rows = None if every else torch.tensor([5, 340, 340, 12])
    dense = torch.zeros(35 * 19, 40)
    pixel = torch.repeat_interleave(torch.arange(35 * 19), weights.row_start.diff())
    dense[pixel, weights.splat.long()] = weights.weight
    dense = dense if rows is None else dense[rows]
    values = torch.randn(40, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    upstream = torch.randn(len(dense), 4, generator=torch.Generator().manual_seed(2))
    splat_weights(weights, rows, values).backward(upstream)
    torch.testing.assert_close(values.grad, dense.T @ upstream, rtol=1e-4, atol=1e-5)
    again = values.detach().clone().requires_grad_()
    splat_weights(weights, rows, again).backward(upstream)
    assert torch.equal(again.grad, values.grad), "not the same bits twice"


def test_reference_in_float64_passes_gradcheck():
    surfels = random_surfels(6, seed=52, log_scale=(-2, -1))
    weights = blend_weights(surfels, make_view(6, 5), backend="reference")
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([7, 7, 14, 20])
    assert torch.autograd.gradcheck(lambda v: splat_weights_reference(weights, rows, v), (values,))


def test_reference_chunks_change_nothing(monkeypatch):
    from diff_surfel_rasterization.reference import rasterize as reference

    surfels = random_surfels(30, seed=53, log_scale=(-2, -1))
    weights = blend_weights(surfels, make_view(), backend="reference")
    values = torch.randn(30, 2, dtype=torch.float64)
    whole = splat_weights_reference(weights, None, values)
    monkeypatch.setattr(reference, "ENTRIES_PER_CHUNK", 17)
    torch.testing.assert_close(splat_weights_reference(weights, None, values), whole)


def test_no_splats_at_all(host_backend):
    surfels = detached(random_surfels(3, seed=1), torch.float32)
    empty = map_tensors(surfels, lambda t: t[:0])
    weights = blend_weights(empty, make_view(5, 4), backend=host_backend)
    assert weights.row_start.tolist() == [0] * 21 and len(weights.splat) == 0
    assert splat_weights(weights, None, torch.zeros(0, 2)).shape == (20, 2)


def test_messages(scene):
    surfels, settings, weights = scene
    with pytest.raises(ValueError, match=r"splat_weights: values must be \[40, C\], got \[7, 2\]"):
        splat_weights(weights, None, torch.zeros(7, 2))
    with pytest.raises(ValueError, match="rows must be pixel indices 0 to 664, got 3 to 665"):
        splat_weights(weights, torch.tensor([3, 665]), torch.zeros(40, 2))
    with pytest.raises(ValueError, match="rows must be int64"):
        splat_weights(weights, torch.tensor([3], dtype=torch.int32), torch.zeros(40, 2))
    with pytest.raises(ValueError, match="min_weight"):
        blend_weights(surfels, settings, min_weight=2.0)
