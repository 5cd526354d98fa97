# SPDX-License-Identifier: Apache-2.0
"""Weights by quads on the CPU: the same bits for any number of threads, and what must agree between
instruction sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    available_backends,
    blend_weights,
    keep_pixels,
    quad_weights,
    sample_quads,
    splat_quads,
    splat_weights,
)
from tests.rasterizer.quad_cases import case_of, dense_quads
from tests.rasterizer.scenes import detached, make_view, random_surfels

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)

from tests.rasterizer.instruction_sets import results_under  # noqa: E402


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(threads: int) -> dict[str, Tensor]:
    """A table, and what is made of it."""
    torch.set_num_threads(threads)
    surfels = detached(random_surfels(3000, seed=63, channels=35), torch.float32)
    big = replace(
        surfels, scales=surfels.scales * torch.where(torch.arange(3000) % 9 == 0, 9, 1)[:, None]
    )
    table = quad_weights(big, make_view(100, 210), 0.004, "cpu")
    found = dict(zip(("start", "row", "weight", "extra"), table.tensors, strict=True))
    for channels in (3, 16, 35):
        values = surfels.features[:, :channels].clone().requires_grad_()
        image = splat_quads(table, values)
        image.square().sum().backward()
        found |= {f"image_{channels}": image.detach(), f"d_values_{channels}": values.grad}
    sampled = sample_quads(table, torch.arange(0, 21000, 7))
    values = surfels.features[sampled.touched].requires_grad_()
    image = splat_weights(sampled.weights, None, values)
    image.square().sum().backward()
    found |= {"touched": sampled.touched, "sampled": image.detach(), "d_sampled": values.grad}
    return found


def test_thread_count_changes_no_bit(threads):
    expected = results(1)
    assert len(expected["extra"]) > 50
    for count in (2, 3, 8):
        for name, tensor in results(count).items():
            assert torch.equal(tensor, expected[name]), f"{name} with {count} threads"


def test_weights_are_rounded_to_the_nearest_half():
    surfels, view = case_of("saturated")
    rows = blend_weights(surfels, view, backend="cpu")
    sampled = sample_quads(quad_weights(surfels, view, backend="cpu"), torch.arange(32 * 64))
    assert float(rows.weight.min()) < 2.0**-14, "no weight below the least normal half"
    assert torch.equal(sampled.weights.weight, rows.weight.half().float())


def rounded_results() -> dict[str, Tensor]:
    test_weights_are_rounded_to_the_nearest_half()
    return results(1)


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_instruction_sets_agree(isa, tmp_path, threads):
    found, expected = results_under(isa, rounded_results, tmp_path), results(1)
    # A weight next to the threshold may be kept by one set and not by the other.
    assert abs(len(found["row"]) - len(expected["row"])) <= 1e-3 * len(expected["row"])
    for name in ("image_3", "image_16", "image_35", "d_values_3", "d_values_16", "d_values_35"):
        error = (found[name] - expected[name]).double().norm()
        assert error <= 1e-3 * expected[name].double().norm(), name


def test_every_length_of_a_quad_is_read_to_its_end(threads):
    """Weights are converted sixteen at a time, but nothing follows the last of a table."""
    torch.set_num_threads(1)
    surfels, view = case_of("small")
    table = quad_weights(surfels, view, backend="cpu")
    for left in range(1, 12):
        pixels = torch.arange(view.width * view.height - left)
        kept = keep_pixels(table, pixels)
        values = torch.randn(300, 16, generator=torch.Generator().manual_seed(left))
        expected = dense_quads(kept) @ values.double()
        torch.testing.assert_close(
            splat_quads(kept, values).double(), expected, rtol=1e-5, atol=1e-5
        )
