# SPDX-License-Identifier: Apache-2.0
"""Products with stored weights by the CUDA kernels on the host shim, against the CPU backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, available_backends
from diff_surfel_rasterization.quads import quad_pixels, quads_from_rows, quads_of_entries
from diff_surfel_rasterization.reference import splat_weights_reference
from diff_surfel_rasterization.reference.quads import splat_quads_reference
from tests.rasterizer import cuda_host
from tests.rasterizer.scenes import detached, make_view, random_surfels

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)
if cuda_host.compiler() is None:
    pytest.skip("no host compiler: apt install g++", allow_module_level=True)

from diff_surfel_rasterization import native  # noqa: E402

COUNT = 300


@pytest.fixture
def use_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call the native functions run the CUDA sources."""

    def switch() -> None:
        operators = cuda_host.load_host_operators()
        monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)

    return switch


def scene(count: int = COUNT) -> tuple[object, object]:
    surfels = detached(random_surfels(COUNT, seed=41, log_scale=(-2.5, 0.0)), torch.float32)
    few = {k: None if v is None else v[:count] for k, v in vars(surfels).items()}
    return type(surfels)(**few), make_view(37, 69)  # several bands of quads, odd sides


def product(
    multiply: Callable[[Tensor], Tensor], channels: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """The image and the gradient of random values under a random upstream gradient."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(COUNT, channels, generator=generator).to(dtype).requires_grad_()
    image = multiply(values)
    image.backward(torch.randn(image.shape, generator=generator).to(dtype))
    assert values.grad is not None
    return [image.detach(), values.grad]


def check_product(
    multiply: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], channels: int
) -> None:
    """Kernels against the reference in float64; the other order of threads gives the same bits."""
    expected = product(reference, channels, torch.float64)
    found = product(multiply, channels)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    with cuda_host.reversed_schedule():
        again = product(multiply, channels)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("channels", [1, 16, 35])
@pytest.mark.parametrize("rows", [None, [], [5, 5, 700, 0, 2000, 5]])
def test_rows(rows, channels, use_kernels):
    weights = native.blend_weights_cpu(*scene())
    chosen = None if rows is None else torch.tensor(rows, dtype=torch.int64)
    use_kernels()
    check_product(
        lambda values: native.splat_weights_native(weights, chosen, values),
        lambda values: splat_weights_reference(weights, chosen, values),
        channels,
    )


@pytest.mark.parametrize("channels", [1, 4, 16, 35])
def test_quads(channels, use_kernels):
    weights = native.quad_weights_cpu(*scene(), 1 / 255)
    assert len(weights.extra), "no splat reaches several bands"
    use_kernels()
    check_product(
        lambda values: native.splat_quads_cuda(weights, values),
        lambda values: splat_quads_reference(weights, values),
        channels,
    )


@pytest.mark.parametrize("channels", [1, 16])
def test_splats_of_any_number_of_entries(channels, use_kernels):
    """Sums by splat are made in chunks of 64 entries: runs within one, up to its ends, and over."""
    counts = torch.tensor([0, 64, 1, 63, 0, 65, 127, 128, 1000, 0, 3, 192, 0])
    pixels = int(counts.max())
    matrix = torch.zeros(pixels, len(counts), dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    for splat, count in enumerate(counts.tolist()):
        matrix[torch.randperm(pixels, generator=generator)[:count], splat] = 1
    pixel, splat = matrix.nonzero(as_tuple=True)
    weight = torch.rand(len(pixel), generator=generator)
    matrix[pixel, splat] = weight.double()
    start = torch.zeros(pixels + 1, dtype=torch.int64)
    start[1:] = torch.bincount(pixel, minlength=pixels).cumsum(0)
    weights = BlendWeights(start, splat.to(torch.int32), weight, len(counts))
    upstream = torch.randn(pixels, channels, generator=generator)
    use_kernels()
    values = torch.zeros(len(counts), channels, requires_grad=True)
    native.splat_weights_native(weights, None, values).backward(upstream)
    torch.testing.assert_close(
        values.grad.double(), matrix.T @ upstream.double(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("channels", [4, 5])
def test_quads_of_any_number_of_entries(channels, use_kernels):
    """Chunks of 64 entries again, and splats without any between those that have some."""
    counts = torch.zeros(700, dtype=torch.int64)
    counts[torch.tensor([0, 1, 5, 6, 300, 301, 699])] = torch.tensor([64, 1, 63, 65, 330, 128, 1])
    width, height = 23, 58  # 12 x 29 quads, two bands
    generator = torch.Generator().manual_seed(7)
    dense = torch.zeros(width * height, len(counts), dtype=torch.float64)
    pixels = quad_pixels(width, height, torch.device("cpu"))
    for splat, count in enumerate(counts.tolist()):
        for quad in torch.randperm(len(pixels), generator=generator)[:count].tolist():
            corners = pixels[quad][pixels[quad] >= 0]
            dense[corners[: 1 + quad % len(corners)], splat] = 0.25 + 0.5 * (quad % 2)
    pixel, splat = dense.nonzero(as_tuple=True)
    start = torch.zeros(len(dense) + 1, dtype=torch.int64)
    start[1:] = torch.bincount(pixel, minlength=len(dense)).cumsum(0)
    rows = BlendWeights(start, splat.int(), dense[pixel, splat].float(), len(counts))
    quads = quads_from_rows(rows, torch.arange(len(counts)).float(), width, height)
    upstream = torch.randn(width * height, channels, generator=generator)
    use_kernels()
    values = torch.zeros(len(counts), channels, requires_grad=True)
    native.splat_quads_cuda(quads, values).backward(upstream)
    expected = dense.T @ upstream.double()
    torch.testing.assert_close(values.grad.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_order_by_splat_is_made_once(use_kernels, monkeypatch):
    weights = native.quad_weights_cpu(*scene(), 1 / 255)
    start, place = weights.by_splat
    assert start[0] == 0 and int(start[-1]) == len(place) == len(weights.row)
    splat = torch.repeat_interleave(torch.arange(COUNT), start.diff())
    entry = place[:, 0].long()
    assert torch.equal(weights.splat[entry].long(), splat)
    assert bool((entry.diff() > 0)[splat.diff() == 0].all()), "not in their order within a splat"
    corner = quad_pixels(37, 69, entry.device)[quads_of_entries(weights)[entry], 0]
    assert torch.equal(place[:, 1].long(), corner)
    monkeypatch.setattr("diff_surfel_rasterization.quads.order_by_splat", None)
    use_kernels()
    for _ in range(2):
        values = torch.ones(COUNT, 4, requires_grad=True)
        native.splat_quads_cuda(weights, values).sum().backward()
    assert values.grad.sum() > 0


def test_gradients_that_do_not_lie_in_fours(use_kernels):
    """A view of a larger tensor starts where no four floats do: a number at a time, same sums."""
    weights = native.quad_weights_cpu(*scene(), 1 / 255)
    use_kernels()
    generator = torch.Generator().manual_seed(3)
    upstream = torch.randn(37 * 69 * 8 + 1, generator=generator)
    found = []
    for gradient in (upstream[1:], upstream[1:].clone()):
        values = torch.zeros(COUNT, 8, requires_grad=True)
        native.splat_quads_cuda(weights, values).backward(gradient.view(-1, 8))
        found.append(values.grad)
    assert torch.equal(*found)


def test_nothing_in_view(use_kernels):
    surfels, view = scene(0)
    rows, quads = native.blend_weights_cpu(surfels, view), native.quad_weights_cpu(surfels, view)
    use_kernels()
    values = torch.zeros(0, 4)
    assert not native.splat_weights_native(rows, None, values).any()
    assert native.splat_quads_cuda(quads, values).shape == (37 * 69, 4)


@pytest.mark.parametrize("min_weight", [0.0, 1 / 255])
def test_quads_of_the_gpu_equal_those_of_the_cpu(min_weight, use_kernels):
    surfels, view = scene()
    expected = native.quad_weights_cpu(surfels, view, min_weight)
    pixels = torch.tensor([3, 2000, 3, 77])
    sampled = native.sample_quads_cpu(expected, pixels)
    use_kernels()
    found = native.quad_weights_cuda(surfels, view, min_weight)
    assert torch.equal(found.quad_start, expected.quad_start)
    assert torch.equal(found.splat, expected.splat)
    torch.testing.assert_close(found.weight.float(), expected.weight.float(), rtol=2e-3, atol=1e-6)
    again = native.sample_quads_cuda(found, pixels)
    assert torch.equal(again.touched, sampled.touched)
    assert torch.equal(again.weights.row_start, sampled.weights.row_start)
