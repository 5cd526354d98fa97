# SPDX-License-Identifier: Apache-2.0
"""Weights by quads on every backend: those of the pixels, rounded; images and gradients of the full
path within that; what thins a table out, and what refuses a damaged one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    QuadWeights,
    RasterSettings,
    Surfels,
    blend_weights,
    check_quads,
    drop_unseen,
    keep_pixels,
    quad_weights,
    rasterize,
    sample_quads,
    splat_quads,
    splat_weights,
)
from diff_surfel_rasterization.quads import quad_pixels, quads_from_rows
from diff_surfel_rasterization.reference.quads import splat_quads_reference
from tests.rasterizer.quad_cases import CASES, assert_rounded, case_of, dense_quads, dense_rows
from tests.rasterizer.scenes import map_tensors

MIN_WEIGHT = 1 / 255


def rows_used_at_once(weights: QuadWeights) -> list[list[set[int]]]:
    """The rows of each even band and of each odd one."""
    columns, rows = -(-weights.width // 2), -(-weights.height // 2)
    used: list[list[set[int]]] = [[], []]
    for band, above in enumerate(range(0, rows, 16)):
        first = above * columns
        last = columns * min(above + 16, rows)
        part = slice(int(weights.quad_start[first]), int(weights.quad_start[last]))
        used[band % 2].append(set(weights.row[part].tolist()))
    return used


@pytest.fixture
def scene(host_backend: str) -> tuple[Surfels, RasterSettings]:
    return case_of("small", torch.float64 if host_backend == "reference" else torch.float32)


@pytest.mark.parametrize("min_weight", [0.0, MIN_WEIGHT, 0.3])
@pytest.mark.parametrize("name", CASES)
def test_a_table_holds_the_weights_of_every_pixel(host_backend, name, min_weight):
    surfels, view = case_of(name)
    table = quad_weights(surfels, view, min_weight, host_backend)
    exact = dense_rows(blend_weights(surfels, view, min_weight, host_backend))
    found = dense_quads(table)
    assert torch.equal(found > 0, exact > 0)
    assert_rounded(found, exact)
    assert bool((table.weight > 0).any(dim=1).all()), "an entry without a weight"
    assert table.quad_start.dtype == torch.int64 and table.row.dtype == torch.int32
    assert (table.width, table.height, table.n_splats) == (
        view.width,
        view.height,
        len(surfels.means),
    )


def test_bands_that_are_summed_at_once_share_no_row(host_backend):
    table = quad_weights(*case_of("bands"), backend=host_backend)
    assert len(table.extra) > 0
    for bands in rows_used_at_once(table):
        assert len(bands) > 1
        for i, first in enumerate(bands):
            assert not any(first & second for second in bands[i + 1 :])


def test_the_quads_cover_the_image_once():
    for width, height in ((1, 1), (37, 29), (64, 32), (45, 150)):
        pixels = quad_pixels(width, height, torch.device("cpu"))
        inside = pixels[pixels >= 0]
        assert torch.equal(inside.sort().values, torch.arange(width * height))


@pytest.mark.parametrize("min_weight", [0.0, MIN_WEIGHT])
def test_images_and_gradients_are_those_of_the_full_path(scene, host_backend, min_weight):
    """Within 5e-4 of the weight for halves, 1 % for weights under a grey level."""
    surfels, view = scene
    table = quad_weights(surfels, view, min_weight, host_backend)
    full = replace(surfels, features=surfels.features.clone().requires_grad_())
    cached = surfels.features.clone().requires_grad_()
    expected = rasterize(full, view, host_backend).features.flatten(1).T
    found = splat_quads(table, cached)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(expected)
    expected.backward(upstream)
    found.backward(upstream)
    expected, found = expected.detach(), found.detach()
    lost = 5e-4 if min_weight == 0 else 2e-2
    assert float((found - expected).norm() / expected.norm()) < lost
    assert float((cached.grad - full.features.grad).norm() / full.features.grad.norm()) < lost
    ones = torch.ones_like(surfels.opacities)
    alpha = rasterize(surfels, view, host_backend).alpha.reshape(-1)
    missing = alpha - splat_quads(table, ones)[:, 0]
    assert float(missing.abs().max()) < (1e-3 if min_weight == 0 else 0.2)
    assert abs(float(missing.sum() / alpha.sum())) < (5e-4 if min_weight == 0 else 1e-2)


@pytest.mark.parametrize("channels", [0, 1, 3, 4, 7, 12, 16, 18, 24, 35, 64])
def test_any_number_of_channels(scene, host_backend, channels):
    surfels, view = scene
    table = quad_weights(surfels, view, MIN_WEIGHT, host_backend)
    matrix = dense_quads(table)
    generator = torch.Generator().manual_seed(channels)
    values = torch.randn(len(surfels.means), channels, generator=generator).to(surfels.means)
    upstream = torch.randn(len(matrix), channels, generator=generator).to(values)
    values.requires_grad_()
    image = splat_quads(table, values)
    assert image.shape == upstream.shape and image.dtype == values.dtype
    image.backward(upstream)
    torch.testing.assert_close(image.double(), matrix @ values.double(), rtol=1e-5, atol=1e-5)
    expected = matrix.T @ upstream.double()
    torch.testing.assert_close(values.grad.double(), expected, rtol=1e-5, atol=1e-5)


def test_values_and_gradients_may_lie_anywhere_in_memory(scene, host_backend):
    surfels, view = scene
    table = quad_weights(surfels, view, backend=host_backend)
    wide = torch.randn(16, len(surfels.means), generator=torch.Generator().manual_seed(0))
    values = wide.to(surfels.means).T.requires_grad_()
    image = splat_quads(table, values)
    image.sum().backward()  # an expanded gradient
    again = values.detach().contiguous().requires_grad_()
    splat_quads(table, again).backward(torch.ones_like(image))
    assert torch.equal(values.grad, again.grad)


@pytest.mark.parametrize("name", ["small", "bands"])
def test_chosen_pixels_have_the_rows_of_the_pixelwise_table(host_backend, name):
    surfels, view = case_of(name)
    table = quad_weights(surfels, view, MIN_WEIGHT, host_backend)
    rows = blend_weights(surfels, view, MIN_WEIGHT, host_backend)
    pixels = torch.tensor([5, 5, 700, 0, view.width * view.height - 1, 333])
    sampled = sample_quads(table, pixels)
    assert torch.equal(sampled.touched, sampled.touched.unique())
    for i, pixel in enumerate(pixels.tolist()):
        part = slice(int(rows.row_start[pixel]), int(rows.row_start[pixel + 1]))
        ours = slice(int(sampled.weights.row_start[i]), int(sampled.weights.row_start[i + 1]))
        splat = sampled.touched[sampled.weights.splat[ours].long()]
        assert splat.tolist() == rows.splat[part].tolist(), "another order of depth"
        assert_rounded(sampled.weights.weight[ours].double(), rows.weight[part].double())
    values = torch.randn(len(surfels.means), 5, generator=torch.Generator().manual_seed(2))
    image = splat_weights(sampled.weights, None, values[sampled.touched])
    torch.testing.assert_close(image, splat_quads(table, values)[pixels], rtol=1e-5, atol=1e-6)
    nothing = sample_quads(table, pixels[:0])
    assert len(nothing.touched) == 0 and nothing.weights.row_start.tolist() == [0]


def test_a_table_can_keep_some_pixels_and_drop_splats_that_nobody_sees(scene, host_backend):
    surfels, view = scene
    beside = replace(surfels, means=surfels.means + surfels.means.new_tensor([0.9, 0.0, 0.0]))
    table = quad_weights(beside, view, MIN_WEIGHT, host_backend)
    pixels = torch.arange(3, view.width * view.height, 5)
    kept = keep_pixels(table, pixels)
    expected = torch.zeros_like(dense_quads(table))
    expected[pixels] = dense_quads(table)[pixels]
    assert torch.equal(dense_quads(kept), expected)
    assert kept.nbytes < 0.7 * table.nbytes
    small, seen = drop_unseen(kept)
    assert 0 < len(seen) == small.n_splats < len(surfels.means)
    assert torch.equal(dense_quads(small), expected[:, seen])
    assert bool((expected.sum(0) > 0)[seen].all())


def test_dropping_splats_keeps_what_bands_may_share():
    table = quad_weights(*case_of("bands"), backend="reference")
    kept = keep_pixels(table, torch.arange(0, 45 * 150, 11))
    small, seen = drop_unseen(kept)
    assert 0 < len(small.extra) <= len(table.extra)
    assert torch.equal(dense_quads(small), dense_quads(kept)[:, seen])
    for bands in rows_used_at_once(small):
        for i, first in enumerate(bands):
            assert not any(first & second for second in bands[i + 1 :])


def test_no_splats_at_all(host_backend):
    surfels, view = case_of("small")
    empty = map_tensors(surfels, lambda t: t[:0])
    table = quad_weights(empty, view, backend=host_backend)
    assert len(table.row) == 0 and table.quad_start.tolist() == [0] * (19 * 15 + 1)
    values = torch.zeros(0, 16, requires_grad=True)
    image = splat_quads(table, values)
    assert torch.equal(image, torch.zeros(37 * 29, 16))
    image.sum().backward()
    assert values.grad is not None and values.grad.shape == (0, 16)
    sampled = sample_quads(table, torch.tensor([4, 9]))
    assert sampled.weights.row_start.tolist() == [0, 0, 0] and len(sampled.touched) == 0
    assert len(drop_unseen(table)[1]) == 0


def test_a_view_beside_all_splats(host_backend):
    surfels, view = case_of("small")
    away = replace(surfels, means=surfels.means + torch.tensor([100.0, 0.0, 0.0]))
    table = quad_weights(away, view, backend=host_backend)
    values = torch.ones(300, 16, requires_grad=True)
    image = splat_quads(table, values)
    image.sum().backward()
    assert len(table.row) == 0 and not image.any() and not values.grad.any()


def test_reference_in_float64_passes_gradcheck():
    surfels, view = case_of("ragged", torch.float64)
    few = map_tensors(surfels, lambda t: t[:6])
    table = quad_weights(few, replace(view, width=7, height=5), backend="reference")
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: splat_quads_reference(table, v), (values,))


def test_reference_chunks_change_nothing(monkeypatch):
    from diff_surfel_rasterization.reference import quads as reference_quads

    table = quad_weights(*case_of("small", torch.float64), backend="reference")
    values = torch.randn(300, 2, dtype=torch.float64)
    whole = splat_quads_reference(table, values)
    monkeypatch.setattr(reference_quads, "ENTRIES_PER_CHUNK", 17)
    torch.testing.assert_close(splat_quads_reference(table, values), whole)


def test_conversion_keeps_the_order_of_depth(scene, host_backend):
    surfels, view = scene
    rows = blend_weights(surfels, view, MIN_WEIGHT, host_backend)
    towards = view.world_to_view[2].to(surfels.means)
    depth = surfels.means @ towards[:3] + towards[3]
    converted = quads_from_rows(rows, depth, view.width, view.height)
    table = quad_weights(surfels, view, MIN_WEIGHT, host_backend)
    assert torch.equal(converted.quad_start, table.quad_start)
    assert torch.equal(converted.splat, table.splat)
    assert torch.equal(converted.weight, table.weight)


def test_messages(scene, host_backend):
    surfels, view = scene
    table = quad_weights(surfels, view, backend=host_backend)
    values = torch.zeros(300, 2)
    with pytest.raises(ValueError, match=r"splat_quads: values must be \[300, C\], got \[7, 2\]"):
        splat_quads(table, values[:7])
    with pytest.raises(ValueError, match="splat_quads: values must be of a floating type"):
        splat_quads(table, values.long())
    with pytest.raises(ValueError, match="pixels must be pixel indices 0 to 1072, got 3 to 1073"):
        sample_quads(table, torch.tensor([3, 1073]))
    with pytest.raises(ValueError, match="sample_quads: pixels must be int64"):
        sample_quads(table, torch.tensor([3], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"quad_weights: min_weight must be in \[0, 1\)"):
        quad_weights(surfels, view, min_weight=2.0)


def test_bytes_are_those_of_the_tensors(scene, host_backend):
    table = quad_weights(*scene, backend=host_backend)
    quads = 19 * 15

    def size(t: Tensor) -> int:
        return t.numel() * t.element_size()

    assert table.nbytes == 8 * (quads + 1) + 12 * len(table.row) + size(table.extra)


def damaged(table: QuadWeights) -> dict[str, QuadWeights]:
    start, row, extra = table.quad_start.clone(), table.row.clone(), table.extra.clone()
    start[5], row[3], extra[0] = start[6] + 1, table.n_splats + len(extra), table.n_splats
    return {
        "start": replace(table, quad_start=start),
        "row": replace(table, row=row),
        "negative row": replace(table, row=-1 - table.row),
        "extra": replace(table, extra=extra),
        "length": replace(table, row=table.row[:-1], weight=table.weight[:-1]),
        "size": replace(table, width=table.width + 2),
    }


@pytest.mark.parametrize("what", ["start", "row", "negative row", "extra", "length", "size"])
def test_a_damaged_table_is_refused(what):
    table = quad_weights(*case_of("bands"), backend="reference")
    check_quads(table)
    with pytest.raises(ValueError, match=r"check_quads: .*(damaged|must be)"):
        check_quads(damaged(table)[what])
