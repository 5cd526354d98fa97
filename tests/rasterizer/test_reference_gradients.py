# SPDX-License-Identifier: Apache-2.0
"""Gradients of the reference against finite differences, and the densification signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import RasterSettings, Surfels, rasterize
from tests.rasterizer.oracle import cast_rays
from tests.rasterizer.scenes import IMAGES, TRAINABLE, detached, make_view, random_loss
from tests.rasterizer.scenes import random_surfels as make_surfels

STEP = 1e-6


def small_view(**changes: object) -> RasterSettings:
    return make_view(13, 9, **changes)


def differences(surfels: Surfels, settings: RasterSettings, name: str) -> Tensor:
    """Central differences of the random loss with respect to one tensor, in float64."""
    fixed = detached(surfels)
    tensor = getattr(fixed, name)
    flat, result = tensor.view(-1), torch.zeros(tensor.numel(), dtype=torch.float64)
    for i in range(len(flat)):
        value = float(flat[i])
        sides = []
        for sign in (1, -1):
            flat[i] = value + sign * STEP
            sides.append(float(random_loss(rasterize(fixed, settings, "reference"), 1)))
        flat[i] = value
        result[i] = (sides[0] - sides[1]) / (2 * STEP)
    return result.view_as(tensor)


def assert_gradients(surfels: Surfels, settings: RasterSettings) -> None:
    random_loss(rasterize(surfels, settings, "reference"), 1).backward()
    for name in TRAINABLE:
        tensor = getattr(surfels, name)
        if tensor is None:
            continue
        expected = differences(surfels, settings, name)
        scale = float(expected.abs().max())
        assert scale > 0, f"{name}: a zero gradient proves nothing"
        error = float((tensor.grad - expected).abs().max())
        assert error < 2e-5 * scale + 1e-7, f"{name}: off by {error} of {scale}"


@pytest.mark.parametrize("anchor", ["projected", "aabb"])
@pytest.mark.parametrize("log_scale", [(-1.5, -0.3), (-5.0, -3.5)], ids=["ray", "low-pass"])
def test_every_input_on_both_branches(log_scale, anchor):
    surfels = make_surfels(5, seed=21, log_scale=log_scale, channels=2)
    assert_gradients(surfels, small_view(low_pass_anchor=anchor))


def test_center_depth_of_the_low_pass():
    surfels = make_surfels(5, seed=22, log_scale=(-4.0, -1.5), channels=1)
    assert_gradients(surfels, small_view(low_pass_depth="center"))


def test_harmonics_send_their_direction_to_the_means():
    surfels = make_surfels(4, seed=23, log_scale=(-2.0, -1.0), channels=1, sh_degree=2)
    assert_gradients(surfels, small_view(sh_degree=2))


def test_saturated_pixels_and_scale_modifier():
    surfels = make_surfels(14, seed=24, log_scale=(-0.7, 0.2), channels=1)
    opaque = surfels.opacities.detach().mul(0.03).add(0.93).requires_grad_()
    surfels = replace(surfels, opacities=opaque)
    settings = make_view(5, 4, scale_modifier=1.3)
    assert float(rasterize(surfels, settings).alpha.detach().max()) > 0.9995
    assert_gradients(surfels, settings)


def test_discs_across_the_camera_plane():
    surfels = make_surfels(4, seed=25, log_scale=(-0.5, 0.5), depth=(0.3, 1.0), channels=1)
    assert_gradients(surfels, make_view(7, 5))


def test_alpha_clamp_stops_the_gradient():
    surfels = make_surfels(1, seed=26, log_scale=(1.0, 1.0), channels=1)
    full = torch.full((1, 1), 0.9999, dtype=torch.float64, requires_grad=True)
    face_on = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    center = torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    surfels = replace(surfels, opacities=full, rotations=face_on, means=center)
    output = rasterize(surfels, small_view(), "reference")
    assert bool(torch.isclose(output.alpha, torch.tensor(0.99).double()).any())
    top = output.alpha.detach().argmax()
    output.alpha.flatten()[top].backward()
    assert float(full.grad.abs().max()) == 0.0
    assert float(center.grad.abs().max()) == 0.0


def test_depth_does_not_move_scales():
    # z of a ray does not depend on s_u, s_v; with the weights held, neither does the depth image.
    surfels = make_surfels(6, seed=27, log_scale=(-4.5, -1.0), channels=1)
    output = rasterize(surfels, small_view(), "reference")
    only = (output.median_depth**2).sum()
    only.backward()
    assert float(output.median_depth.detach().max()) > 0
    assert float(surfels.scales.grad.abs().max()) < 1e-9
    assert float(surfels.means.grad.abs().max()) > 1e-3


@pytest.mark.parametrize("log_scale", [(-1.5, -0.3), (-4.0, -1.5)], ids=["ray", "mixed"])
def test_screen_signal_against_moved_rays(log_scale):
    surfels = make_surfels(5, seed=28, log_scale=log_scale, channels=2)
    settings = small_view()
    random_loss(rasterize(surfels, settings, "reference"), 3).backward()
    found = surfels.screen_grad.grad
    assert float(found[:, 2].abs().max()) == 0.0
    view = settings.world_to_view
    depth = (surfels.means.detach() @ view[2, :3] + view[2, 3]).numpy()
    half = np.array([settings.width, settings.height]) / 2

    def loss(shift: np.ndarray) -> float:
        images = cast_rays(surfels, settings, shift)
        tensors = {name: torch.as_tensor(images[name]) for name in IMAGES}
        return float(random_loss(_Images(tensors), 3))  # type: ignore[arg-type]

    for i in range(5):
        for axis in range(2):
            shift = np.zeros((5, 2))
            shift[i, axis] = STEP
            slope = (loss(shift) - loss(-shift)) / (2 * STEP)
            expected = slope * depth[i] * half[axis]
            assert float(found[i, axis]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


class _Images:
    """The tensors of a dictionary as attributes."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.__dict__.update(tensors)


def test_subpixel_splats_give_no_signal_but_a_gradient():
    surfels = make_surfels(20, seed=29, log_scale=(-9.0, -8.0), channels=1)
    random_loss(rasterize(surfels, small_view(), "reference"), 3).backward()
    assert float(surfels.screen_grad.grad.abs().max()) < 1e-6
    assert float(surfels.means.grad.abs().max()) > 1e-2


def test_absolute_signal_sums_the_magnitudes_of_single_pixels():
    surfels = make_surfels(6, seed=30, log_scale=(-2.5, -0.5), channels=1)
    settings = make_view(6, 5)
    output = rasterize(surfels, settings, "reference")
    weight = torch.randn(6 * 5, 3, generator=torch.Generator().manual_seed(0)).double()
    per_pixel = (output.color.permute(1, 2, 0).reshape(-1, 3) * weight).sum(dim=1)
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for value in per_pixel:
        (signed,) = torch.autograd.grad(value, surfels.screen_grad, retain_graph=True)
        expected += signed.abs()
    per_pixel.sum().backward()
    torch.testing.assert_close(surfels.screen_grad_abs.grad, expected)
    slack = 1e-12 + surfels.screen_grad_abs.grad - surfels.screen_grad.grad.abs()
    assert float(slack.min()) >= 0


def test_carriers_are_worth_zero_whatever_they_hold():
    surfels, settings = make_surfels(8, seed=31), small_view()
    plain = replace(surfels, screen_grad=None, screen_grad_abs=None)
    ones = torch.ones(8, 3, dtype=torch.float64, requires_grad=True)
    loaded = replace(surfels, screen_grad=ones, screen_grad_abs=None)
    expected = rasterize(plain, settings, "reference").color
    torch.testing.assert_close(rasterize(loaded, settings, "reference").color, expected)


def test_camera_and_background_get_no_gradient():
    background = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    pose = make_view().world_to_view.clone().requires_grad_()
    settings = small_view(background=background, world_to_view=pose)
    random_loss(rasterize(make_surfels(5, seed=32), settings, "reference"), 1).backward()
    assert background.grad is None and pose.grad is None
