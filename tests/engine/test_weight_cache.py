# SPDX-License-Identifier: Apache-2.0
"""Cached weights give what rendering gives, within a budget."""

from __future__ import annotations

import torch

from diff_surfel_rasterization import BlendWeights
from iqgs.engine.weight_cache import (
    BYTES_PER_ENTRY,
    CachedView,
    WeightCache,
    sample_pixels,
    select_rows,
)


def make_weights(rows: int = 50, splats: int = 30, seed: int = 0) -> BlendWeights:
    g = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 6, (rows,), generator=g)
    row_start = torch.zeros(rows + 1, dtype=torch.int64)
    row_start[1:] = counts.cumsum(0)
    total = int(row_start[-1])
    return BlendWeights(
        row_start=row_start,
        n_splats=splats,
        splat=torch.randint(0, splats, (total,), generator=g).int(),
        weight=torch.rand(total, generator=g),
    )


def dense(weights: BlendWeights) -> torch.Tensor:
    rows = torch.repeat_interleave(
        torch.arange(len(weights.row_start) - 1), weights.row_start.diff()
    )
    matrix = torch.zeros(len(weights.row_start) - 1, weights.n_splats)
    return matrix.index_put((rows, weights.splat.long()), weights.weight, accumulate=True)


def test_selected_rows_are_those_rows() -> None:
    weights = make_weights()
    rows = torch.tensor([7, 3, 3, 49, 0])
    assert torch.equal(dense(select_rows(weights, rows)), dense(weights)[rows])


def test_sampled_pixels_splat_like_the_whole_view_and_backpropagate() -> None:
    weights = make_weights()
    values = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    view = CachedView(torch.arange(50), weights)
    sampled = sample_pixels(view, 20, torch.Generator().manual_seed(2))
    assert len(sampled.pixels.unique()) == 20
    found = sampled.splat(values[sampled.touched])
    matrix = dense(weights)[sampled.pixels]
    assert torch.allclose(found, matrix @ values, atol=1e-6)
    assert torch.allclose(sampled.alpha, matrix.sum(1), atol=1e-6)
    upstream = torch.randn(20, 4, generator=torch.Generator().manual_seed(3))
    (grad,) = torch.autograd.grad(found, values, upstream)
    assert torch.allclose(grad, matrix.T @ upstream, atol=1e-6)


def test_the_budget_holds_and_keeps_a_fair_subset_of_every_view() -> None:
    weights = [make_weights(400, seed=seed) for seed in range(3)]
    whole = sum(len(w.splat) for w in weights) * BYTES_PER_ENTRY
    calls: list[int] = []

    def compute(index: int) -> BlendWeights:
        calls.append(index)
        return weights[index]

    cache = WeightCache(3, compute, whole / 2, seed=0)
    for index in (0, 1, 2, 0, 1):
        view = cache.view(index)
        assert torch.equal(dense(view.weights), dense(weights[index])[view.pixels])
        assert 0.3 < len(view.pixels) / 400 < 0.7
    assert calls == [0, 1, 2]
    assert cache.stored_bytes <= 0.6 * whole
    assert cache.subsampled == 3


def test_without_a_budget_every_visit_recomputes_all_pixels() -> None:
    calls: list[int] = []

    def compute(index: int) -> BlendWeights:
        calls.append(index)
        return make_weights()

    cache = WeightCache(1, compute, 0, seed=0)
    assert len(cache.view(0).pixels) == len(cache.view(0).pixels) == 50
    assert calls == [0, 0]
