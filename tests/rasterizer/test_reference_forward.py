# SPDX-License-Identifier: Apache-2.0
"""The reference against rays cast in space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diff_surfel_rasterization import RasterSettings, Surfels, rasterize
from diff_surfel_rasterization.reference.color import sh_colors
from tests.rasterizer.oracle import cast_rays
from tests.rasterizer.scenes import IMAGES, detached, make_view, random_surfels


def assert_matches_rays(
    surfels: Surfels, settings: RasterSettings, tolerance: float = 1e-9
) -> None:
    output = rasterize(surfels, settings, backend="reference")
    expected = cast_rays(surfels, settings)
    assert expected["alpha"].max() > 0.05, "an empty picture proves nothing"
    for name in IMAGES:
        found = getattr(output, name).detach().numpy()
        assert found.shape == expected[name].shape
        assert np.abs(found - expected[name]).max() < tolerance, name


@pytest.mark.parametrize("log_scale", [(-1.5, 0.0), (-3.0, -1.0), (-6.0, -4.0)])
@pytest.mark.parametrize("low_pass_depth", ["exact", "center"])
def test_large_medium_and_subpixel_splats(log_scale, low_pass_depth):
    surfels = random_surfels(14, seed=3, log_scale=log_scale)
    assert_matches_rays(surfels, make_view(low_pass_depth=low_pass_depth))


@pytest.mark.parametrize("size", [(1, 1), (17, 1), (3, 33), (16, 16)])
def test_ragged_sizes(size):
    surfels = random_surfels(12, seed=5, log_scale=(-2.0, 0.0))
    assert_matches_rays(surfels, make_view(*size))


def test_box_anchor():
    surfels = random_surfels(10, seed=7, log_scale=(-5.0, -2.0))
    settings = make_view(low_pass_anchor="aabb")
    assert_matches_rays(surfels, settings, tolerance=1e-6)  # the rim is sampled
    projected = rasterize(surfels, replace(settings, low_pass_anchor="projected"), "reference")
    boxed = rasterize(surfels, settings, "reference")
    assert (projected.alpha - boxed.alpha).abs().max() > 1e-4, "the anchors do differ here"


def test_discs_that_cross_the_camera_plane():
    surfels = detached(random_surfels(6, seed=2, log_scale=(0.0, 0.8), depth=(0.3, 1.2)))
    settings = make_view()
    assert_matches_rays(surfels, settings)
    behind = 3 * surfels.scales.amax(dim=1) > surfels.means[:, 2]
    assert int(behind.sum()) >= 3
    radii = rasterize(surfels, settings, "reference").radii
    assert int(radii.max()) == settings.width


def test_saturated_pixels_stop_before_the_splat_that_would_cross():
    surfels = detached(random_surfels(40, seed=4, log_scale=(-0.5, 0.5)))
    surfels = replace(surfels, opacities=torch.full_like(surfels.opacities, 0.97))
    assert_matches_rays(surfels, make_view(12, 9))
    assert float(rasterize(surfels, make_view(12, 9)).alpha.max()) > 0.999


def test_scale_modifier_and_principal_point():
    surfels = random_surfels(10, seed=8)
    assert_matches_rays(surfels, make_view(scale_modifier=1.7, cx=-3.0, cy=21.0))


def test_near_plane_cuts_splats_and_single_rays():
    surfels = random_surfels(12, seed=9, log_scale=(-1.0, 0.3), depth=(0.05, 1.5))
    assert_matches_rays(surfels, make_view(near=0.6))


def test_many_tiles_and_recomputation_change_nothing(monkeypatch):
    from diff_surfel_rasterization.reference import rasterize as reference
    from diff_surfel_rasterization.reference import tiles as reference_tiles

    surfels, settings = random_surfels(30, seed=11, log_scale=(-2, -0.5)), make_view(40, 35)
    whole = rasterize(surfels, settings, "reference")
    (whole.color.sum() + whole.distortion.sum()).backward()
    kept = surfels.means.grad.clone()
    surfels.means.grad = None
    monkeypatch.setattr(reference, "KEEP_CELLS", 0)
    monkeypatch.setattr(reference_tiles, "MAX_BLOCK_CELLS", 1500)
    parts = rasterize(surfels, settings, "reference")
    (parts.color.sum() + parts.distortion.sum()).backward()
    torch.testing.assert_close(parts.color, whole.color, rtol=0, atol=1e-12)
    torch.testing.assert_close(surfels.means.grad, kept, rtol=1e-10, atol=1e-10)


def test_float32_stays_near_float64():
    surfels, settings = random_surfels(60, seed=12, log_scale=(-4, -1)), make_view(48, 32)
    exact = rasterize(surfels, settings, "reference")
    rounded = rasterize(detached(surfels, torch.float32), settings, "reference")
    assert rounded.color.dtype == torch.float32
    assert float((rounded.color - exact.color).detach().abs().quantile(0.99)) < 1e-5


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_are_orthonormal_and_linear_terms_point_the_right_way(degree):
    from diff_surfel_rasterization.reference.color import sh_basis

    # Gauss-Legendre in z times uniform azimuth integrates these products exactly.
    nodes, weights = np.polynomial.legendre.leggauss(8)
    azimuth = np.arange(16) * 2 * np.pi / 16
    z, phi = np.repeat(nodes, 16), np.tile(azimuth, 8)
    ring = np.sqrt(1 - z * z)
    directions = torch.tensor(np.stack([ring * np.cos(phi), ring * np.sin(phi), z], axis=1))
    area = torch.tensor(np.repeat(weights, 16) * 2 * np.pi / 16)
    basis = sh_basis(directions, degree)
    gram = basis.T @ (area[:, None] * basis)
    torch.testing.assert_close(gram, torch.eye((degree + 1) ** 2, dtype=torch.float64))
    if degree > 0:
        probe = sh_basis(torch.eye(3, dtype=torch.float64), 1)
        signs = torch.sign(probe[:, 1:4])
        expected = torch.tensor([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]], dtype=torch.float64)
        assert torch.equal(signs, expected)


def test_harmonics_give_the_colour_of_the_viewing_direction():
    surfels = random_surfels(8, seed=13, sh_degree=3)
    settings = make_view(sh_degree=2)
    view = settings.world_to_view
    center = -view[:3, :3].T @ view[:3, 3]
    colors = sh_colors(surfels.sh, surfels.means, center, 2)
    assert bool((colors >= 0).all()) and bool((colors == 0).any()), "the clamp is exercised"
    same = replace(surfels, sh=None, colors=colors)
    found = rasterize(surfels, settings, "reference").color
    torch.testing.assert_close(found, rasterize(same, settings, "reference").color)
