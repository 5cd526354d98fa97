# SPDX-License-Identifier: Apache-2.0
"""Colours of any width, and the shapes and types that the compatible class takes or refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.rasterizer.compat_cases import (
    EMPTY,
    N,
    attributes_of,
    call,
    expected_features,
    rasterizer,
    scene,
)
from tests.rasterizer.scenes import random_surfels

# -- colours of any width -----------------------------------------------------------------------


def with_background(features: Tensor, alpha: Tensor, background: list[float]) -> Tensor:
    return features + (1 - alpha) * torch.tensor(background).double()[:, None, None]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_colours_of_any_width_over_a_background_of_that_width(channels):
    surfels = scene()
    background = [0.1, 0.9, 0.3, 0.5, 0.7][:channels]
    raster = rasterizer(bg=torch.tensor(background, dtype=torch.float64))
    color, _, allmap = call(surfels, raster, colors_precomp=surfels.features[:, :channels])
    expected = expected_features(surfels)[:channels]
    torch.testing.assert_close(color, with_background(expected, allmap[1:2], background))


@pytest.mark.parametrize("given", [0.5, [0.5], [0.5, 0.5, 0.5], torch.tensor(0.5)])
def test_one_background_for_all_channels(given):
    surfels = scene()
    color, _, allmap = call(surfels, rasterizer(bg=given), colors_precomp=surfels.features)
    expected = with_background(expected_features(surfels), allmap[1:2], [0.5] * 5)
    torch.testing.assert_close(color, expected)


@pytest.mark.parametrize("given", [[0.1, 0.2, 0.3], [0.5, 0.5], []])
def test_a_background_that_can_be_read_in_two_ways_is_refused(given):
    message = f"bg has {len(given)} numbers for colours of 5 channels; give one a channel"
    with pytest.raises(ValueError, match=message):
        call(scene(), rasterizer(bg=given), colors_precomp=scene().features)


def test_gradients_of_wide_colours_are_those_of_features_over_their_background():
    def gradients(wide: bool) -> list[Tensor]:
        surfels = random_surfels(N, seed=83, log_scale=(-2.5, -1), channels=5)
        background = [0.1, 0.9, 0.3, 0.5, 0.7]
        if wide:
            raster = rasterizer(bg=torch.tensor(background, dtype=torch.float64))
            image = call(surfels, raster, colors_precomp=surfels.features)[0]
        else:
            _, _, allmap, image = call(surfels, features=surfels.features)
            image = with_background(image, allmap[1:2], background)
        weight = torch.linspace(-1, 1, image.numel(), dtype=torch.float64)
        (image.flatten() * weight).sum().backward()
        return [surfels.features.grad, surfels.means.grad, surfels.opacities.grad]

    torch.testing.assert_close(gradients(True), gradients(False))


# -- shapes and types ---------------------------------------------------------------------------


def test_empty_tensors_stand_for_none():
    surfels = scene()
    expected = call(surfels)
    found = rasterizer()(
        means3D=surfels.means, means2D=EMPTY, opacities=surfels.opacities, shs=EMPTY,
        colors_precomp=surfels.colors, scales=surfels.scales, rotations=surfels.rotations,
        cov3D_precomp=EMPTY,
    )  # fmt: skip
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="exactly one of shs and colors_precomp"):
        call(surfels, colors_precomp=EMPTY)


def test_what_can_be_read_in_one_way_is_taken():
    surfels = scene(torch.float32)
    expected = call(surfels)
    torch.testing.assert_close(call(surfels, opacities=surfels.opacities[:, 0]), expected)
    mixed = {"scales": surfels.scales.double(), "opacities": surfels.opacities.double()}
    torch.testing.assert_close(call(surfels, **mixed), expected)
    for half in (torch.float16, torch.bfloat16):
        color, _, _ = call(surfels, colors_precomp=surfels.colors.to(half))
        assert color.dtype == torch.float32
        torch.testing.assert_close(color, expected[0], atol=2e-2, rtol=0)


def test_signals_of_two_three_and_four_columns():
    def signal(columns: int) -> Tensor:
        surfels = scene(torch.float32)
        means2d = torch.zeros(N, columns, requires_grad=True)
        raster = rasterizer(torch.float32)
        color, _, _ = raster(surfels.means, means2d, **attributes_of(surfels))
        (color * torch.linspace(-1, 1, color.numel()).reshape(color.shape)).sum().backward()
        return means2d.grad

    two, three, four = (signal(columns) for columns in (2, 3, 4))
    assert float(three[:, :2].abs().max()) > 0 and torch.equal(two, three[:, :2])
    assert torch.equal(four[:, :2], two)
    assert bool((four[:, 2:] >= four[:, :2].abs() - 1e-4).all())
    assert float(four[:, 2:].sum()) > 1.1 * float(two.abs().sum())


def test_what_could_be_read_in_two_ways_is_refused():
    surfels = scene(torch.float32)
    raster = rasterizer(torch.float32)
    with pytest.raises(
        ValueError, match=r"means2D must be .30, 2., .30, 3. or .30, 4., got .30, 5"
    ):
        raster(surfels.means, torch.zeros(N, 5), **attributes_of(surfels))
    with pytest.raises(ValueError, match=r"scales must be .30, 2., got .30, 3."):
        call(surfels, scales=torch.ones(N, 3))
