# SPDX-License-Identifier: Apache-2.0
"""Cached weights give what rendering gives, within a budget."""

from __future__ import annotations

import pytest
import torch

from arguments.groups import SegmentationParams
from diff_surfel_rasterization import QuadWeights
from diff_surfel_rasterization.quads import quad_pixels, quads_from_rows, quads_of_entries
from diff_surfel_rasterization.types import BlendWeights
from iqgs.engine.lifting.weight_cache import (
    GIB,
    SHARE_BESIDE_ORDER,
    WeightCache,
    draw_distinct,
    fit_view,
    room_for_tables,
    sample_pixels,
)
from iqgs.engine.lifting.weight_files import CachedView

WIDTH, HEIGHT, SPLATS = 20, 14, 30


def make_weights(seed: int = 0, width: int = WIDTH, splats: int = SPLATS) -> QuadWeights:
    """Random weights; the last five splats have none."""
    g = torch.Generator().manual_seed(seed)
    pixels = width * HEIGHT
    matrix = torch.rand(pixels, splats, generator=g)
    matrix = torch.where(torch.rand(pixels, splats, generator=g) < 0.15, matrix, 0.0)
    matrix[:, splats - 5 :] = 0.0
    pixel, splat = matrix.nonzero(as_tuple=True)
    row_start = torch.zeros(pixels + 1, dtype=torch.int64)
    row_start[1:] = torch.bincount(pixel, minlength=pixels).cumsum(0)
    rows = BlendWeights(row_start, splat.int(), matrix[pixel, splat], splats)
    return quads_from_rows(rows, torch.arange(splats), width, HEIGHT)


def dense(weights: QuadWeights) -> torch.Tensor:
    """Weights by pixel and splat."""
    quad = quads_of_entries(weights)
    pixels = quad_pixels(weights.width, weights.height, torch.device("cpu"))[quad]
    matrix = torch.zeros(weights.width * weights.height + 1, weights.n_splats)
    for corner in range(4):
        matrix[pixels[:, corner], weights.splat.long()] += weights.weight[:, corner].float()
    return matrix[:-1]  # one place behind the last pixel stands for those outside the image


def view_of(weights: QuadWeights) -> CachedView:
    return fit_view(weights, float("inf"), seed=0)


@pytest.mark.parametrize("count", [20, 0, WIDTH * HEIGHT])
def test_sampled_pixels_splat_like_the_whole_view_and_backpropagate(count: int) -> None:
    weights = make_weights()
    values = torch.randn(SPLATS, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    sampled = sample_pixels(view_of(weights), count, torch.Generator().manual_seed(2))
    assert len(sampled.pixels.unique()) == len(sampled.pixels) == (count or WIDTH * HEIGHT)
    assert int(sampled.touched.max()) < SPLATS - 5
    found = sampled.splat(values[sampled.touched])
    matrix = dense(weights)[sampled.pixels]
    assert torch.allclose(found, matrix @ values, atol=1e-6)
    assert torch.allclose(sampled.alpha, matrix.sum(1), atol=1e-6)
    upstream = torch.randn(len(matrix), 4, generator=torch.Generator().manual_seed(3))
    (grad,) = torch.autograd.grad(found, values, upstream)
    assert torch.allclose(grad, matrix.T @ upstream, atol=1e-5)


@pytest.mark.parametrize("count", [0, 7, 1000])
def test_a_view_with_fewer_pixels_samples_from_those(count: int) -> None:
    weights = make_weights()
    view = fit_view(weights, 0.6 * view_of(weights).nbytes, seed=4)
    assert view.pixels is not None
    sampled = sample_pixels(view, count, torch.Generator().manual_seed(2))
    assert bool(torch.isin(sampled.pixels, view.pixels).all())
    assert len(sampled.pixels.unique()) == (count if count == 7 else view.pixel_count)
    values = torch.randn(SPLATS, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    found = sampled.splat(values[sampled.touched])
    matrix = dense(weights)[sampled.pixels]
    assert torch.allclose(found, matrix @ values, atol=1e-6)
    (grad,) = torch.autograd.grad(found.sum(), values)
    assert torch.allclose(grad, matrix.sum(0)[:, None].expand(-1, 4), atol=1e-5)


@pytest.mark.parametrize(
    ("total", "count"), [(10, 10), (10, 1), (1000, 200), (10_000, 2000), (9, 2)]
)
def test_drawn_numbers_are_distinct_and_each_as_likely(total: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hits, places = torch.zeros(total), torch.zeros(total)
    turns = 3000
    for _ in range(turns):
        drawn = draw_distinct(total, count, generator)
        assert len(drawn) == count == len(drawn.unique())
        hits[drawn] += 1
        places[drawn[0]] += 1
    chance = count / total
    spread = (turns * chance * (1 - chance)) ** 0.5
    assert float((hits - turns * chance).abs().max()) <= 6 * spread
    assert float(places.max()) <= turns / total + 6 * (turns / total) ** 0.5 + 3


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_the_budget_holds_and_keeps_a_fair_subset_of_every_view(share: float) -> None:
    weights = [make_weights(seed, width=200) for seed in range(3)]
    whole = sum(view_of(w).nbytes for w in weights)
    calls: list[int] = []

    def compute(index: int) -> QuadWeights:
        calls.append(index)
        return weights[index]

    cache = WeightCache(3, compute, share * whole, seed=0)
    for index in (0, 1, 2, 0, 1):
        view = cache.view(index)
        assert view.pixels is not None
        expected = dense(weights[index])
        found = torch.zeros_like(expected)
        found[:, view.touched] = dense(view.weights)
        assert torch.equal(found[view.pixels], expected[view.pixels])
        left_out = torch.ones(len(expected), dtype=torch.bool)
        left_out[view.pixels] = False
        assert not found[left_out].any()
        columns = (view.pixels % 200).float()
        assert abs(float(columns.mean()) - 99.5) < 12, "not spread over the image"
    assert calls == [0, 1, 2]
    assert 0.8 * share * whole <= cache.stored_bytes <= share * whole
    assert cache.subsampled == 3


def test_a_budget_for_all_keeps_all_without_what_the_view_does_not_show() -> None:
    weights = make_weights()
    cache = WeightCache(1, lambda index: weights, 1e9, seed=0)
    view = cache.view(0)
    assert view.pixels is None and view.pixel_count == WIDTH * HEIGHT
    assert view.touched.tolist() == list(range(SPLATS - 5))
    assert torch.equal(dense(view.weights), dense(weights)[:, : SPLATS - 5])
    assert (cache.subsampled, cache.stored_bytes) == (0, view.nbytes)


def test_without_a_budget_every_visit_recomputes_all_pixels() -> None:
    calls: list[int] = []

    def compute(index: int) -> QuadWeights:
        calls.append(index)
        return make_weights()

    cache = WeightCache(1, compute, 0, seed=0)
    assert cache.view(0).pixel_count == cache.view(0).pixel_count == WIDTH * HEIGHT
    assert calls == [0, 0]


def test_the_order_by_splat_has_room_beside_the_tables() -> None:
    weights = make_weights()
    entries = weights.row.nbytes + weights.weight.nbytes
    _, place = weights.by_splat
    assert entries / (entries + place.nbytes) == SHARE_BESIDE_ORDER
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    some, every = (SegmentationParams(cache_gb=2.0, pixels_per_step=n) for n in (4096, 0))
    assert room_for_tables(some, gpu) == room_for_tables(every, cpu) == 2 * GIB
    assert room_for_tables(every, gpu) == 2 * GIB * SHARE_BESIDE_ORDER
