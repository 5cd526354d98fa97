# SPDX-License-Identifier: Apache-2.0
"""Code written for 2DGS runs unchanged: a renderer in that calling style, and its corners."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import (
    GaussianRasterizationSettings,
    GaussianRasterizer,
    rasterize,
)
from diff_surfel_rasterization.compat import raster_settings_from
from tests.rasterizer.compat_cases import (
    TrainingCamera,
    attributes_of,
    settings_of,
    training_camera,
)
from tests.rasterizer.oracle import cast_rays
from tests.rasterizer.scenes import IMAGES, detached, make_view, random_loss, random_surfels


def render_like_2dgs(
    camera: TrainingCamera, xyz: Tensor, attributes: dict[str, Tensor], background: Tensor
) -> dict[str, Tensor]:
    """The way training code of the family calls its rasterizer."""
    screenspace_points = torch.zeros_like(xyz, requires_grad=True) + 0
    screenspace_points.retain_grad()
    raster_settings = GaussianRasterizationSettings(
        image_height=int(camera.image_height),
        image_width=int(camera.image_width),
        tanfovx=math.tan(camera.FoVx * 0.5),
        tanfovy=math.tan(camera.FoVy * 0.5),
        bg=background,
        scale_modifier=1.0,
        viewmatrix=camera.world_view_transform,
        projmatrix=camera.full_proj_transform,
        sh_degree=1,
        campos=camera.camera_center,
        prefiltered=False,
        debug=False,
    )
    rasterizer = GaussianRasterizer(raster_settings=raster_settings)
    image, radii, allmap = rasterizer(
        means3D=xyz, means2D=screenspace_points, cov3D_precomp=None, **attributes
    )
    alpha = allmap[1:2]
    normal = allmap[2:5].permute(1, 2, 0) @ camera.world_view_transform[:3, :3].T
    return {
        "render": image,
        "viewspace_points": screenspace_points,
        "visibility_filter": radii > 0,
        "radii": radii,
        "rend_alpha": alpha,
        "rend_normal": normal.permute(2, 0, 1),
        "depth": torch.nan_to_num(allmap[0:1] / alpha, 0, 0),
        "median": allmap[5:6],
        "rend_dist": allmap[6:7],
    }


def test_a_2dgs_renderer_runs_and_trains():
    surfels = random_surfels(30, seed=61, log_scale=(-2.5, -1), sh_degree=1, dtype=torch.float32)
    camera = training_camera()
    package = render_like_2dgs(camera, surfels.means, attributes_of(surfels), torch.zeros(3))
    assert package["render"].shape == (3, 18, 24) and package["radii"].dtype == torch.int32
    target = torch.full_like(package["render"], 0.5)
    loss = (package["render"] - target).abs().mean() + package["rend_dist"].mean()
    (loss + (1 - package["rend_normal"][2]).mean()).backward()
    for tensor in (surfels.means, surfels.sh, surfels.opacities, surfels.scales, surfels.rotations):
        assert bool(torch.isfinite(tensor.grad).all()) and float(tensor.grad.abs().max()) > 0
    signal = package["viewspace_points"].grad
    assert signal.shape == (30, 3) and float(signal[:, :2].abs().max()) > 0
    assert float(signal[:, 2].abs().max()) == 0
    assert float(signal[~package["visibility_filter"]].abs().sum()) == 0


def test_images_are_those_of_rays_with_the_box_anchor():
    surfels = random_surfels(25, seed=62, log_scale=(-4.0, -1.0), dtype=torch.float64)
    camera = training_camera(dtype=torch.float64)
    settings = make_view(cx=12.0, cy=9.0, fy=24.0, low_pass_anchor="aabb")
    dark = replace(settings, background=torch.zeros(3, dtype=torch.float64))
    expected = cast_rays(surfels, dark)
    color, _, allmap = GaussianRasterizer(settings_of(camera))(
        surfels.means, None, **attributes_of(surfels)
    )
    channels = {"depth": 0, "alpha": 1, "normal": slice(2, 5), "median_depth": 5, "distortion": 6}
    assert np.abs(color.detach().numpy() - expected["color"]).max() < 1e-6
    for name, index in channels.items():
        found = allmap[index].detach().reshape(-1, 18, 24).numpy()
        assert np.abs(found - expected[name]).max() < 1e-5, name


def test_matrices_carry_focal_lengths_and_principal_point():
    wanted = make_view(40, 30)
    projection = torch.zeros(4, 4, dtype=torch.float64)
    projection[0, 0], projection[1, 1] = 2 * wanted.fx / 40, 2 * wanted.fy / 30
    projection[0, 2], projection[1, 2] = 2 * wanted.cx / 40 - 1, 2 * wanted.cy / 30 - 1
    projection[2, 2], projection[3, 2] = 1.0, 1.0
    camera = training_camera(40, 30)
    full = (projection @ wanted.world_to_view).T
    view = wanted.world_to_view.T
    found = raster_settings_from(settings_of(camera, viewmatrix=view, projmatrix=full))
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-9)
    assert found.low_pass_anchor == "aabb" and (found.near, found.far) == (0.2, 100.0)
    torch.testing.assert_close(found.world_to_view, wanted.world_to_view)


def pixel_transforms(surfels, settings) -> Tensor:
    """What 2DGS code passes as cov3D_precomp: from (u, v, 1) to pixel indices times depth."""
    from diff_surfel_rasterization.reference.surfels import project

    transform = project(surfels, settings).transform
    to_index = torch.tensor([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]], dtype=torch.float64)
    return (to_index @ transform).reshape(-1, 9).detach()


def test_precomputed_transforms_render_the_same_and_pin_the_signal(monkeypatch):
    from diff_surfel_rasterization.reference import surfels as reference_surfels

    # Without a low-pass the signal is the transform's own gradient, rescaled.
    monkeypatch.setattr(reference_surfels, "LOW_PASS_PRECISION", 1e9)
    surfels = random_surfels(20, seed=63, log_scale=(-1.0, -0.3))
    settings = raster_settings_from(settings_of(training_camera()))
    output = rasterize(surfels, settings)
    transforms = pixel_transforms(surfels, settings).requires_grad_()
    screen = torch.zeros(20, 3, dtype=torch.float64, requires_grad=True)
    rasterizer = GaussianRasterizer(settings_of(training_camera()))
    color, radii, allmap = rasterizer(
        surfels.means, screen, surfels.opacities, None, surfels.colors, cov3D_precomp=transforms
    )
    torch.testing.assert_close(color, output.color)
    torch.testing.assert_close(allmap[:2], torch.cat([output.depth, output.alpha]))
    assert torch.equal(radii, output.radii)
    constant = torch.stack([0 * output.alpha[0], 0 * output.alpha[0], -output.alpha[0]])
    torch.testing.assert_close(allmap[2:5], constant)
    (color * torch.linspace(-1, 1, color.numel()).reshape(color.shape)).sum().backward()
    grad, depth = transforms.grad, transforms.detach()[:, 8]
    torch.testing.assert_close(screen.grad[:, 0], grad[:, 2] * depth * 12)
    torch.testing.assert_close(screen.grad[:, 1], grad[:, 5] * depth * 9)


def test_signal_is_that_of_the_functional_call():
    surfels = random_surfels(30, seed=64, log_scale=(-3.5, -1), dtype=torch.float32)
    functional = detached(surfels, torch.float32)
    functional = replace(functional, screen_grad=functional.screen_grad.requires_grad_())
    settings = raster_settings_from(settings_of(training_camera()))
    random_loss(rasterize(functional, settings), 0, ("color",)).backward()
    means2d = torch.zeros(30, 3, requires_grad=True)
    rasterizer = GaussianRasterizer(settings_of(training_camera()))
    color, _, _ = rasterizer(surfels.means, means2d, **attributes_of(surfels))
    images = replace(rasterize(functional, settings), color=color)
    random_loss(images, 0, IMAGES[:1]).backward()
    torch.testing.assert_close(means2d.grad, functional.screen_grad.grad)


def test_mark_visible_is_the_near_plane():
    camera = training_camera()
    rasterizer = GaussianRasterizer(settings_of(camera))
    depth = torch.tensor([-1.0, 0.1999, 0.2001, 50.0])
    points = torch.stack([0 * depth, 0 * depth, depth, 0 * depth + 1], dim=1)
    world = points @ torch.linalg.inv(camera.world_view_transform)
    assert rasterizer.markVisible(world[:, :3]).tolist() == [False, False, True, True]


def test_arguments_are_given_exactly_once():
    surfels = detached(random_surfels(4, seed=65), torch.float32)
    rasterizer = GaussianRasterizer(settings_of(training_camera()))
    both = attributes_of(surfels, shs=torch.zeros(4, 1, 3))
    with pytest.raises(Exception, match="exactly one of shs and colors_precomp"):
        rasterizer(surfels.means, None, **both)
    with pytest.raises(Exception, match="exactly one of shs and colors_precomp"):
        rasterizer(surfels.means, None, **attributes_of(surfels, colors_precomp=None))
    with pytest.raises(Exception, match="either scales and rotations, or cov3D_precomp"):
        rasterizer(surfels.means, None, **attributes_of(surfels, scales=None))
    with pytest.raises(Exception, match="either scales and rotations, or cov3D_precomp"):
        extra = torch.zeros(4, 9)
        rasterizer(surfels.means, None, **attributes_of(surfels), cov3D_precomp=extra)


def test_debug_names_an_image_that_is_not_finite_and_prefiltered_never_traps():
    surfels = detached(random_surfels(4, seed=66, log_scale=(-1, 0)), torch.float32)
    settings = settings_of(training_camera(), debug=True, prefiltered=True)
    behind = surfels.means * torch.tensor([1.0, 1.0, -1.0])
    _, radii, _ = GaussianRasterizer(settings)(behind, None, **attributes_of(surfels))
    assert radii.tolist() == [0, 0, 0, 0]
    broken = torch.full((4, 3), float("nan"))
    with pytest.raises(RuntimeError, match="colors_precomp is not finite; look for what made it"):
        GaussianRasterizer(settings)(
            surfels.means, None, **attributes_of(surfels, colors_precomp=broken)
        )
    with pytest.raises(RuntimeError, match="color is not finite; look for huge values"):
        GaussianRasterizer(settings._replace(bg=[float("inf")] * 3))(
            surfels.means, None, **attributes_of(surfels)
        )
