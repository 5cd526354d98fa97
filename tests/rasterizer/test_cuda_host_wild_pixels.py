# SPDX-License-Identifier: Apache-2.0
"""Wild pixels (see test_wild_pixels.py) through the CUDA kernels on the host shim."""

from __future__ import annotations

import pytest
import torch

from diff_surfel_rasterization import available_backends
from tests.rasterizer import cuda_host
from tests.rasterizer.quad_cases import dense_quads, dense_rows
from tests.rasterizer.scenes import IMAGES, detached, random_ellipsoids, random_surfels
from tests.rasterizer.wild_pixels import (
    INF,
    NAN,
    Renderer,
    check_empty_pixels,
    check_nothing_but_wild,
    check_one_pixel,
    check_product,
    check_renderer_of_2dgs,
    scattered,
)

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)
if cuda_host.compiler() is None:
    pytest.skip("no host compiler: apt install g++", allow_module_level=True)

from diff_surfel_rasterization import native  # noqa: E402


@pytest.fixture(params=[random_surfels, random_ellipsoids], ids=["surfels", "ellipsoids"])
def renderer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Renderer:
    operators = cuda_host.load_host_operators()
    monkeypatch.setattr(native, "_operators", lambda function, tensor: operators)
    return Renderer(native.rasterize_native, make=request.param)


@pytest.mark.parametrize("value", [NAN, -INF])
def test_nothing_comes_from_empty_pixels(renderer, value):
    check_empty_pixels(renderer, value)


@pytest.mark.parametrize("name", IMAGES)
def test_no_number_reaches_whom_the_pixel_sees(renderer, name):
    check_one_pixel(renderer, name, NAN)


def test_infinity_reaches_whom_the_pixel_sees(renderer):
    check_one_pixel(renderer, "color", INF)


def test_channels_of_several_passes_are_kept_apart(renderer):
    check_one_pixel(renderer, "features", NAN, channels=61)
    check_empty_pixels(renderer, NAN, channels=61)


def test_no_number_is_not_taken_for_no_gradient(renderer):
    check_nothing_but_wild(renderer)


def test_a_renderer_of_2dgs_gets_the_gradients_of_the_masked_one(renderer):
    if renderer.make is random_ellipsoids:
        pytest.skip("2DGS renders surfels")
    check_renderer_of_2dgs(renderer, 1e-3)


@pytest.mark.parametrize("channels", [4, 7, 21])
def test_stored_weights_keep_pixels_apart(renderer, channels):
    surfels, view = scattered(channels)
    plain = detached(surfels, torch.float32)
    rows, quads = native.blend_weights_cuda(plain, view), native.quad_weights_cuda(plain, view)
    by_row, by_quad = dense_rows(rows), dense_quads(quads)
    for value in (NAN, INF):
        check_product(
            lambda v: native.splat_weights_cuda(rows, None, v), by_row, plain.features, value
        )
        check_product(lambda v: native.splat_quads_cuda(quads, v), by_quad, plain.features, value)
