# SPDX-License-Identifier: Apache-2.0
"""3D Gaussians in the reference against an independent renderer: images, and every gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import Ellipsoids, RasterSettings, Surfels, rasterize
from tests.rasterizer.ellipsoid_oracle import splat_ellipsoids
from tests.rasterizer.scenes import (
    IMAGES,
    TRAINABLE,
    detached,
    make_view,
    random_ellipsoids,
    random_loss,
)

STEP = 1e-6
DOUBLE = torch.float64


def assert_matches_oracle(
    ellipsoids: Ellipsoids, settings: RasterSettings, tolerance: float = 1e-9
) -> dict[str, np.ndarray]:
    output = rasterize(ellipsoids, settings, backend="reference")
    expected = splat_ellipsoids(ellipsoids, settings)
    assert expected["alpha"].max() > 0.05, "an empty picture proves nothing"
    for name in IMAGES:
        found = getattr(output, name).detach().numpy()
        assert found.shape == expected[name].shape
        assert np.abs(found - expected[name]).max() < tolerance, name
    return expected


def ellipsoids_from(
    means: list[list[float]], scales: list[list[float]], opacity: float = 0.8
) -> Ellipsoids:
    """Splats with these centres and sizes, each turned in its own way."""
    count = len(means)
    turned = random_ellipsoids(count, seed=5)
    return replace(
        detached(turned),
        means=torch.tensor(means, dtype=DOUBLE),
        scales=torch.tensor(scales, dtype=DOUBLE),
        opacities=torch.full((count, 1), opacity, dtype=DOUBLE),
    )


@pytest.mark.parametrize("log_scale", [(-1.5, 0.0), (-3.0, -1.0), (-6.0, -4.0)])
def test_large_medium_and_subpixel_splats(log_scale):
    assert_matches_oracle(random_ellipsoids(14, seed=3, log_scale=log_scale), make_view())


@pytest.mark.parametrize("size", [(1, 1), (17, 1), (3, 33), (16, 16)])
def test_ragged_sizes(size):
    assert_matches_oracle(random_ellipsoids(12, seed=5, log_scale=(-2.0, 0.0)), make_view(*size))


def test_scale_modifier_and_principal_point():
    splats = random_ellipsoids(10, seed=8)
    assert_matches_oracle(splats, make_view(scale_modifier=1.7, cx=-3.0, cy=21.0))


def test_saturated_pixels_stop_before_the_splat_that_would_cross():
    splats = detached(random_ellipsoids(40, seed=4, log_scale=(-0.5, 0.5)))
    splats = replace(splats, opacities=torch.full_like(splats.opacities, 0.97))
    expected = assert_matches_oracle(splats, make_view(12, 9))
    assert expected["alpha"].max() > 0.999


def test_needles_of_every_direction():
    splats = detached(random_ellipsoids(20, seed=12))
    needles = torch.tensor([0.5, 1e-4, 1e-4], dtype=DOUBLE).expand(20, 3)
    assert_matches_oracle(replace(splats, scales=needles), make_view())


def test_discs_and_spheres_of_no_size():
    flat = ellipsoids_from([[0.1, 0, 2], [0, 0.2, 3]], [[0.3, 0.3, 1e-9], [1e-12, 1e-12, 1e-12]])
    assert_matches_oracle(flat, make_view(), 1e-8)


def test_behind_at_and_just_before_the_camera_plane():
    view = make_view()
    turn, shift = view.world_to_view[:3, :3], view.world_to_view[:3, 3]
    depths = [-2.0, -1e-3, 0.0, 0.1999, 0.2001, 0.3, 2.0]
    in_camera = torch.tensor([[0.02 * k, -0.01 * k, z] for k, z in enumerate(depths)], dtype=DOUBLE)
    world = (in_camera - shift) @ turn
    splats = ellipsoids_from(world.tolist(), [[0.05, 0.1, 0.2]] * 7, opacity=0.3)
    expected = assert_matches_oracle(splats, view)
    radii = rasterize(splats, view, "reference").radii
    assert (radii > 0).tolist() == [False] * 4 + [True] * 3
    assert expected["depth"].max() > 0.0


def test_splats_as_large_as_the_scene():
    splats = ellipsoids_from(
        [[0.3, 0.2, 1.0], [3.0, 0, 2.0]], [[20.0, 5.0, 9.0], [300.0, 1.0, 2.0]]
    )
    assert_matches_oracle(splats, make_view())


def test_beside_the_image_the_slope_is_kept_within_bounds():
    """Centres at four times the field of view, large enough to reach into the picture."""
    splats = ellipsoids_from(
        [[5.0, 0, 1.2], [-6.0, 0.5, 1.0], [0.3, 4.0, 1.0], [-0.2, -5.0, 1.4]],
        [[1.5, 1.5, 0.8], [2.0, 2.5, 2.5], [1.0, 1.5, 1.5], [1.5, 2.0, 1.5]],
    )
    for view in (make_view(), make_view(cx=3.0, cy=30.0)):
        kept = assert_matches_oracle(splats, view)
        # A far larger field of view has no such bound for them: it would show another picture.
        wide = replace(view, width=400, height=400, cx=view.cx + 188, cy=view.cy + 191)
        whole = rasterize(splats, wide, "reference").alpha.detach().numpy()
        seen = whole[:, 191 : 191 + view.height, 188 : 188 + view.width]
        assert np.abs(seen - kept["alpha"]).max() > 0.1


def test_opacities_near_their_ends():
    splats = detached(random_ellipsoids(12, seed=9, log_scale=(-1.5, 0.0)))
    ends = torch.tensor([1e-9, 0.0039, 0.004, 0.005, 0.9899, 0.9901, 1.0, 0.5] * 2, dtype=DOUBLE)
    assert_matches_oracle(replace(splats, opacities=ends[:12, None]), make_view())


def differences(splats: Ellipsoids, settings: RasterSettings, name: str) -> Tensor:
    """Central differences of the random loss of the oracle's images by one tensor."""
    fixed = detached(splats)
    flat = getattr(fixed, name).view(-1)
    result = torch.zeros_like(flat)
    for i in range(len(flat)):
        value, sides = float(flat[i]), []
        for sign in (1, -1):
            flat[i] = value + sign * STEP
            sides.append(loss_of(splat_ellipsoids(fixed, settings)))
        flat[i] = value
        result[i] = (sides[0] - sides[1]) / (2 * STEP)
    return result.view_as(getattr(fixed, name))


def loss_of(images: dict[str, np.ndarray]) -> float:
    return float(random_loss(_Images(images), 1))  # type: ignore[arg-type]


class _Images:
    """The images of a dictionary as attributes."""

    def __init__(self, images: dict[str, np.ndarray]) -> None:
        self.__dict__.update({name: torch.as_tensor(image) for name, image in images.items()})


def assert_gradients(splats: Ellipsoids, settings: RasterSettings) -> None:
    random_loss(rasterize(splats, settings, "reference"), 1).backward()
    for name in TRAINABLE:
        tensor = getattr(splats, name)
        if tensor is None:
            continue
        expected = differences(splats, settings, name)
        scale = float(expected.abs().max())
        assert scale > 0, f"{name}: a zero gradient proves nothing"
        error = float((tensor.grad - expected).abs().max())
        assert error < 2e-5 * scale + 1e-7, f"{name}: off by {error} of {scale}"


@pytest.mark.parametrize("log_scale", [(-1.5, -0.3), (-4.5, -3.0)], ids=["large", "subpixel"])
def test_every_gradient(log_scale):
    splats = random_ellipsoids(4, seed=21, log_scale=log_scale, channels=2)
    assert_gradients(splats, make_view(11, 8))


def test_gradients_where_the_slope_is_at_its_bound():
    splats = ellipsoids_from(
        [[3.0, 0.1, 1.5], [-0.2, -3.0, 1.2]], [[1.2, 0.9, 0.8], [0.7, 1.0, 1.1]]
    )
    leaves = {k: None if v is None else v.requires_grad_() for k, v in vars(splats).items()}
    assert_gradients(Ellipsoids(**leaves), make_view(9, 7, scale_modifier=1.3))


def test_saturated_pixels():
    splats = random_ellipsoids(12, seed=24, log_scale=(-0.7, 0.2), channels=1)
    opaque = splats.opacities.detach().mul(0.03).add(0.93).requires_grad_()
    splats = replace(splats, opacities=opaque)
    assert float(rasterize(splats, make_view(4, 3)).alpha.detach().max()) > 0.9995
    assert_gradients(splats, make_view(4, 3))


def test_alpha_clamp_stops_the_gradient():
    splats = random_ellipsoids(1, seed=26, log_scale=(1.0, 1.0), channels=1)
    full = torch.full((1, 1), 0.9999, dtype=DOUBLE, requires_grad=True)
    center = torch.tensor([[0.0, 0.0, 2.0]], dtype=DOUBLE, requires_grad=True)
    output = rasterize(replace(splats, opacities=full, means=center), make_view(13, 9), "reference")
    top = output.alpha.detach().argmax()
    assert float(output.alpha.detach().flatten()[top]) == pytest.approx(0.99)
    output.alpha.flatten()[top].backward()
    assert float(full.grad.abs().max()) == 0.0
    assert float(center.grad.abs().max()) == 0.0


def test_depth_is_that_of_the_centre():
    """Median depth asks for the centre's depth alone: no scale, no rotation moves it."""
    splats = random_ellipsoids(6, seed=27, log_scale=(-2.5, -1.0), channels=1)
    output = rasterize(splats, make_view(13, 9), "reference")
    (output.median_depth**2).sum().backward()
    assert float(splats.scales.grad.abs().max()) == 0.0
    assert float(splats.rotations.grad.abs().max()) == 0.0
    turn = make_view().world_to_view[2, :3]
    along = splats.means.grad / turn  # the same number along all three axes of the view's direction
    torch.testing.assert_close(along[:, 0], along[:, 2])


def test_screen_signal_against_moved_splats():
    splats = random_ellipsoids(5, seed=28, log_scale=(-1.5, -0.3), channels=2)
    settings = make_view(13, 9)
    random_loss(rasterize(splats, settings, "reference"), 1).backward()
    found = splats.screen_grad.grad
    assert float(found[:, 2].abs().max()) == 0.0
    for i in range(5):
        for axis, half in enumerate((settings.width / 2, settings.height / 2)):
            shift = np.zeros((5, 2))
            shift[i, axis] = STEP
            sides = [loss_of(splat_ellipsoids(splats, settings, s)) for s in (shift, -shift)]
            slope = (sides[0] - sides[1]) / (2 * STEP)
            assert float(found[i, axis]) == pytest.approx(slope * half, rel=1e-4, abs=1e-4)


def test_absolute_signal_sums_the_magnitudes_of_single_pixels():
    splats = random_ellipsoids(6, seed=30, log_scale=(-2.5, -0.5), channels=1)
    output = rasterize(splats, make_view(6, 5), "reference")
    weight = torch.randn(6 * 5, 3, generator=torch.Generator().manual_seed(0)).double()
    per_pixel = (output.color.permute(1, 2, 0).reshape(-1, 3) * weight).sum(dim=1)
    expected = torch.zeros(6, 3, dtype=DOUBLE)
    for value in per_pixel:
        (signed,) = torch.autograd.grad(value, splats.screen_grad, retain_graph=True)
        expected += signed.abs()
    per_pixel.sum().backward()
    torch.testing.assert_close(splats.screen_grad_abs.grad, expected)


def test_normals_are_the_shortest_axes_whichever_they_are():
    """The same flat splat, its thin axis first, second or third, has the same normal image."""
    thin = [[1e-3, 0.4, 0.4], [0.4, 1e-3, 0.4], [0.4, 0.4, 1e-3]]
    half = 0.5**0.5
    # Rotations that bring the thin axis of each to the direction of z.
    turns = [[half, 0, -half, 0], [half, half, 0, 0], [1.0, 0, 0, 0]]
    images = []
    for scales, turn in zip(thin, turns, strict=True):
        splat = replace(
            ellipsoids_from([[0.0, 0.0, 2.0]], [scales]),
            rotations=torch.tensor([turn], dtype=DOUBLE),
        )
        images.append(rasterize(splat, make_view(), "reference").normal)
    assert float(images[0].abs().max()) > 0.5
    for image in images[1:]:
        torch.testing.assert_close(image, images[0])


def test_a_flat_ellipsoid_seen_from_afar_is_nearly_a_surfel():
    """From afar perspective is linear, and where splats are large no low-pass matters."""
    flat = ellipsoids_from([[0.0, 0.0, 900.0]], [[4.0, 2.0, 1e-6]])
    surfel = Surfels(**{**vars(flat), "scales": flat.scales[:, :2]})
    view = make_view(48, 36, fx=9000.0, fy=9000.0, cx=24.0, cy=18.0)
    view = replace(view, world_to_view=torch.eye(4, dtype=DOUBLE))
    one, two = (rasterize(splats, view, "reference") for splats in (flat, surfel))
    assert float(one.alpha.max()) > 0.3
    assert float((one.alpha - two.alpha).abs().max()) < 0.02


@pytest.mark.parametrize("kind", ["scales", "type"])
def test_messages_say_which_kind_was_expected(kind):
    splats = detached(random_ellipsoids(3, seed=1))
    if kind == "scales":
        splats = replace(splats, scales=splats.scales[:, :2])
        with pytest.raises(ValueError, match=r"ellipsoids.scales must be \[3, 3\], got \[3, 2\]"):
            rasterize(splats, make_view())
    else:
        with pytest.raises(ValueError, match="splats must be Surfels or Ellipsoids, got dict"):
            rasterize(vars(splats), make_view())  # type: ignore[arg-type]
