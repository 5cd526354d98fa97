# SPDX-License-Identifier: Apache-2.0
"""The gradient of a pixel reaches the splats that contributed to it and no other, whatever it is:
renderers that divide by alpha send no number from pixels that nobody covers."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization import (
    available_backends,
    blend_weights,
    quad_weights,
    rasterize,
    sample_quads,
    splat_quads,
    splat_weights,
)
from diff_surfel_rasterization.losses import mask_loss
from tests.rasterizer.instruction_sets import results_under
from tests.rasterizer.quad_cases import dense_quads, dense_rows
from tests.rasterizer.scenes import (
    IMAGES,
    detached,
    map_tensors,
    random_ellipsoids,
    random_surfels,
)
from tests.rasterizer.wild_pixels import (
    INF,
    NAN,
    Renderer,
    check_empty_pixels,
    check_nothing_but_wild,
    check_one_pixel,
    check_product,
    check_renderer_of_2dgs,
    divide_2dgs,
    divide_masked,
    scattered,
)


@pytest.fixture(params=[random_surfels, random_ellipsoids], ids=["surfels", "ellipsoids"])
def renderer(request, backend, backend_type) -> Renderer:
    dtype, device, _ = backend_type
    return Renderer(
        lambda splats, view: rasterize(splats, view, backend), dtype, device, request.param
    )


@pytest.mark.parametrize("value", [NAN, -INF])
def test_nothing_comes_from_empty_pixels(renderer, value):
    check_empty_pixels(renderer, value)


@pytest.mark.parametrize("name", IMAGES)
def test_no_number_reaches_whom_the_pixel_sees(renderer, name):
    check_one_pixel(renderer, name, NAN)


def test_infinity_reaches_whom_the_pixel_sees(renderer):
    check_one_pixel(renderer, "color", INF)


def test_many_channels_are_kept_apart_like_few(renderer):
    check_one_pixel(renderer, "features", NAN, channels=61)
    check_empty_pixels(renderer, NAN, channels=61)


def test_no_number_is_not_taken_for_no_gradient(renderer):
    check_nothing_but_wild(renderer)


def test_a_renderer_of_2dgs_gets_the_gradients_of_the_masked_one(renderer):
    if renderer.make is random_ellipsoids:
        pytest.skip("2DGS renders surfels")
    check_renderer_of_2dgs(renderer, 1e-9 if renderer.dtype == torch.float64 else 1e-3)


def on_host(table):
    """Stored weights with all their tensors on the CPU."""
    moved = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in vars(table).items()}
    return type(table)(**moved)


def every_check_of_the_cpu() -> dict[str, torch.Tensor]:
    renderer = Renderer(lambda surfels, view: rasterize(surfels, view, "cpu"))
    check_empty_pixels(renderer, NAN)
    for name in IMAGES:
        check_one_pixel(renderer, name, NAN)
    check_nothing_but_wild(renderer)
    for channels in (5, 16, 21):
        test_stored_weights_keep_pixels_apart("cpu", (torch.float32, "cpu", 0.0), channels)
    return {}


@pytest.mark.skipif("cpu" not in available_backends(), reason="the native library is not built")
@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_other_instruction_sets_keep_pixels_apart(isa, tmp_path):
    results_under(isa, every_check_of_the_cpu, tmp_path)


@pytest.mark.parametrize("channels", [2, 7, 16, 21])
def test_stored_weights_keep_pixels_apart(backend, backend_type, channels):
    dtype, device, _ = backend_type
    surfels, view = scattered(channels)
    plain = map_tensors(detached(surfels, dtype), lambda t: t.to(device))
    values = plain.features
    rows = blend_weights(plain, view, backend=backend)
    quads = quad_weights(plain, view, backend=backend)
    pixels = torch.arange(view.width * view.height, device=device)
    sample = sample_quads(quads, pixels)
    by_row, by_quad = dense_rows(on_host(rows)), dense_quads(on_host(quads))

    def from_sample(given):
        return splat_weights(sample.weights, None, given[sample.touched])

    for value in (NAN, INF):
        check_product(lambda v: splat_weights(rows, None, v), by_row, values, value)
        check_product(lambda v: splat_quads(quads, v), by_quad, values, value)
        check_product(from_sample, by_quad, values, value)


def test_mask_losses_of_mean_features_are_those_of_the_masked_ones(backend, backend_type):
    dtype, device, tolerance = backend_type
    surfels, view = scattered()
    generator = torch.Generator().manual_seed(74)
    queries = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    owner = torch.randint(-1, 3, (view.height * view.width,), generator=generator)

    def gradient(dtype, device, backend, divide):
        plain = map_tensors(detached(surfels, dtype), lambda t: t.to(device))
        quads = quad_weights(plain, view, backend=backend)
        given = plain.features.clone().requires_grad_()
        alpha = splat_quads(quads, torch.ones_like(given))
        mean = divide(splat_quads(quads, given), alpha)
        losses = mask_loss(queries.to(mean), mean, owner.to(device), 2.0, None, backend=backend)
        torch.stack(losses).sum().backward()
        return given.grad.double().cpu()

    expected = gradient(torch.float64, "cpu", "reference", divide_masked)
    found = gradient(dtype, device, backend, divide_2dgs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=tolerance * 1e-2)


def test_one_querys_gradient_leaves_the_others_alone(backend, backend_type):
    dtype, device, _ = backend_type
    generator = torch.Generator().manual_seed(75)
    queries = torch.randn(11, 5, generator=generator).to(device, dtype).requires_grad_()
    features = torch.randn(300, 5, generator=generator).to(device, dtype)
    owner = torch.randint(-1, 11, (300,), generator=generator).to(device)
    found = []
    for wild in (0.0, NAN):
        queries.grad = None
        focal, dice = mask_loss(queries, features, owner, 2.0, None, backend=backend)
        weight = torch.ones_like(focal)
        weight[4] = wild
        torch.autograd.backward([focal, dice], [weight, weight])
        found.append(queries.grad.clone())
    assert torch.isnan(found[1][4]).all()
    others = torch.arange(11, device=device) != 4
    assert torch.equal(found[1][others], found[0][others])
