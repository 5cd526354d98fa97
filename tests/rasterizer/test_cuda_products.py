# SPDX-License-Identifier: Apache-2.0
"""Stored weights on a GPU: `pytest -m cuda`. The same kernels run on any machine through the host
shim (test_cuda_host_products.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    blend_weights,
    quad_weights,
    sample_quads,
    splat_quads,
    splat_weights,
)
from tests.rasterizer.cuda_cases import ON_A_GPU
from tests.rasterizer.quad_cases import CASES, case_of
from tests.rasterizer.scenes import map_tensors

pytestmark = ON_A_GPU

DEVICE = "cuda"
MIN_WEIGHT = 1 / 255
Table = TypeVar("Table")


def moved(table: Table) -> Table:
    """The same table on the GPU, so that both devices multiply with the same weights."""
    tensors = {f.name: getattr(table, f.name) for f in fields(table)}
    there = {k: v.to(DEVICE) for k, v in tensors.items() if isinstance(v, Tensor)}
    return replace(table, **there)


def product(multiply: Callable[[Tensor], Tensor], count: int, channels: int, device: str) -> list:
    """The image and the gradient of random values under a random upstream gradient."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(count, channels, generator=generator).to(device).requires_grad_()
    image = multiply(values)
    image.backward(torch.randn(image.shape, generator=generator).to(device))
    assert values.grad is not None and image.device.type == torch.device(device).type
    return [image.detach(), values.grad]


def assert_close_and_repeatable(found: list, again: list, expected: list, tolerance: float) -> None:
    for got, repeated, want in zip(found, again, expected, strict=True):
        assert torch.equal(got, repeated), "other bits on another run"
        error = (got.cpu().double() - want.double()).norm()
        assert error <= tolerance * want.double().norm().clamp_min(1e-3)


@pytest.mark.parametrize("min_weight", [0.0, MIN_WEIGHT])
@pytest.mark.parametrize("name", CASES)
def test_quads_equal_those_of_the_cpu(name, min_weight):
    surfels, view = case_of(name)
    expected = quad_weights(surfels, view, min_weight)
    found = quad_weights(map_tensors(surfels, lambda t: t.to(DEVICE)), view, min_weight)
    assert torch.equal(found.quad_start.cpu(), expected.quad_start)
    assert torch.equal(found.splat.cpu(), expected.splat)
    torch.testing.assert_close(
        found.weight.cpu().float(), expected.weight.float(), rtol=2e-3, atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 4, 16, 35])
@pytest.mark.parametrize("name", ["small", "bands"])
def test_products_with_quads(name, channels):
    surfels, view = case_of(name)
    table, count = quad_weights(surfels, view, MIN_WEIGHT), len(surfels.means)
    expected = product(lambda v: splat_quads(table, v), count, channels, "cpu")
    there = moved(table)
    runs = [product(lambda v: splat_quads(there, v), count, channels, DEVICE) for _ in range(2)]
    assert_close_and_repeatable(*runs, expected, 1e-5)


@pytest.mark.parametrize("channels", [1, 16, 35])
@pytest.mark.parametrize("rows", [None, [], [5, 5, 700, 0, 1000, 5]])
def test_products_with_rows(rows, channels):
    surfels, view = case_of("small")
    table, count = blend_weights(surfels, view), len(surfels.means)
    chosen = None if rows is None else torch.tensor(rows, dtype=torch.int64)
    expected = product(lambda v: splat_weights(table, chosen, v), count, channels, "cpu")
    there = moved(table)
    chosen = None if chosen is None else chosen.to(DEVICE)
    runs = [
        product(lambda v: splat_weights(there, chosen, v), count, channels, DEVICE)
        for _ in range(2)
    ]
    assert_close_and_repeatable(*runs, expected, 1e-5)


def test_chosen_pixels_equal_those_of_the_cpu():
    surfels, view = case_of("bands")
    table, pixels = quad_weights(surfels, view, MIN_WEIGHT), torch.tensor([3, 2000, 3, 77])
    expected, found = sample_quads(table, pixels), sample_quads(moved(table), pixels.to(DEVICE))
    assert torch.equal(found.touched.cpu(), expected.touched)
    for name in ("row_start", "splat", "weight"):
        got, want = getattr(found.weights, name), getattr(expected.weights, name)
        assert torch.equal(got.cpu(), want), name


def test_products_on_a_stream_of_the_callers():
    surfels, view = case_of("small")
    table = moved(quad_weights(surfels, view, MIN_WEIGHT))
    count = len(surfels.means)

    def everything() -> list[Tensor]:
        return product(lambda v: splat_quads(table, v), count, 16, DEVICE)

    expected = everything()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = everything()
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
