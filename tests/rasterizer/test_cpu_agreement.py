# SPDX-License-Identifier: Apache-2.0
"""The native CPU backend against the float64 reference, images and all gradients, both kinds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import available_backends, blend_weights, native
from tests.rasterizer.quad_cases import dense_rows
from tests.rasterizer.scenes import (
    crossing_splats,
    detached,
    make_view,
    map_tensors,
    random_ellipsoids,
    random_loss,
    random_surfels,
)

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)

from diff_surfel_rasterization.native import rasterize_cpu  # noqa: E402
from tests.rasterizer.cpu_cases import (  # noqa: E402
    SOME_IMAGES,
    assert_agrees,
    assert_listed_where_they_show,
    compare,
)

both_kinds = pytest.mark.parametrize(
    "make", [random_surfels, random_ellipsoids], ids=["surfels", "ellipsoids"]
)
# Standard deviations in the world; the view's pixels are about 0.1 wide.
SIZES = {"rays": (-2.0, 0.0), "mixed": (-4.0, -1.0), "low_pass": (-8.0, -5.0)}


@pytest.mark.parametrize("anchor", ["projected", "aabb"])
@pytest.mark.parametrize("depth", ["exact", "center"])
@pytest.mark.parametrize("size", SIZES)
def test_both_sides_of_the_low_pass(size, depth, anchor):
    surfels = random_surfels(250, seed=1, log_scale=SIZES[size])
    view = make_view(48, 35, low_pass_depth=depth, low_pass_anchor=anchor)
    assert_agrees(compare(surfels, view))


@pytest.mark.parametrize("size", SIZES)
def test_ellipsoids_of_all_sizes(size):
    splats = random_ellipsoids(250, seed=1, log_scale=SIZES[size])
    assert_agrees(compare(splats, make_view(48, 35)))


@pytest.mark.parametrize("anchor", ["projected", "aabb"])
@pytest.mark.parametrize("names", SOME_IMAGES, ids="-".join)
@both_kinds
def test_losses_of_some_images_alone(make, names, anchor):
    splats = make(250, seed=1, log_scale=SIZES["mixed"])
    assert_agrees(compare(splats, make_view(48, 35, low_pass_anchor=anchor), names=names))


@pytest.mark.parametrize("channels", [0, 1, 3, 16, 19, 35])
@both_kinds
def test_any_number_of_channels(make, channels):
    splats = make(150, seed=2, channels=channels)
    assert_agrees(compare(splats, make_view(30, 21)))


@pytest.mark.parametrize("active", [0, 1, 2, 3])
@both_kinds
def test_spherical_harmonics_of_every_degree(make, active):
    splats = make(150, seed=3, sh_degree=3)
    assert_agrees(compare(splats, make_view(30, 21, sh_degree=active)))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16, 16), (17, 33), (4, 64), (65, 3)])
@both_kinds
def test_ragged_sizes(make, width, height):
    splats = make(200, seed=4, log_scale=(-2.0, 0.0))
    assert_agrees(compare(splats, make_view(width, height)))


@both_kinds
def test_saturated_pixels(make):
    splats = detached(make(300, seed=5, log_scale=(-1.0, 0.5)))
    splats = replace(splats, opacities=torch.full_like(splats.opacities, 0.999))
    found = compare(splats, make_view(40, 30))
    assert_agrees(found)


@both_kinds
def test_tiles_longer_than_a_batch(make):
    splats = detached(make(1500, seed=6, log_scale=(-2.0, -1.0)))
    splats = replace(splats, opacities=0.02 * splats.opacities + 0.004)
    assert_agrees(compare(splats, make_view(20, 18)))


def test_discs_across_the_camera_plane():
    surfels = random_surfels(60, seed=7, log_scale=(0.5, 2.0), depth=(0.5, 3.0))
    assert_agrees(compare(surfels, make_view(32, 24)))


@both_kinds
def test_splats_behind_and_beside_the_view(make):
    splats = detached(make(300, seed=8))
    spread = torch.tensor([4.0, 4.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    splats = replace(splats, means=splats.means * spread - shift)
    found = compare(splats, make_view(40, 30))
    assert_agrees(found)


@both_kinds
def test_scale_modifier_and_a_far_principal_point(make):
    splats = make(200, seed=9)
    view = make_view(40, 30, scale_modifier=0.6, cx=55.0, cy=-8.0)
    assert_agrees(compare(splats, view))


@both_kinds
def test_one_splat_and_none(make):
    splats = detached(make(20, seed=10, log_scale=(-1.0, 0.0)))
    for count in (1, 0):
        few = {k: None if v is None else v[:count] for k, v in vars(splats).items()}
        found = compare(type(splats)(**few), make_view(20, 15))
        assert_agrees(found)


@both_kinds
def test_screen_signals_reach_their_carriers(make):
    splats = make(200, seed=11, log_scale=(-2.0, 0.0))
    found = compare(splats, make_view(40, 30))
    assert found.gradients["screen_grad"] <= 1e-4
    assert found.gradients["screen_grad_abs"] <= 1e-4


@pytest.mark.parametrize("images", [("color",), ("color", "depth", "normal"), ("distortion",)])
@both_kinds
def test_the_absolute_signal_alone_is_that_beside_the_signed_one(make, images):
    """Alone it is summed elsewhere; the agreement above is that of both."""
    splats = detached(make(200, seed=13, log_scale=(-2.0, 0.0)), torch.float32)
    view = make_view(40, 30)

    def gradients(*carriers: str) -> dict[str, torch.Tensor]:
        copy = map_tensors(splats, lambda t: t.clone().requires_grad_())
        others = {name: None for name in ("screen_grad", "screen_grad_abs") if name not in carriers}
        random_loss(rasterize_cpu(replace(copy, **others), view), 0, images).backward()
        fields = {name: getattr(copy, name) for name in vars(copy) if name not in others}
        return {name: t.grad for name, t in fields.items() if t is not None and t.grad is not None}

    both, alone = gradients("screen_grad", "screen_grad_abs"), gradients("screen_grad_abs")
    without = gradients()
    assert set(both) - set(alone) == {"screen_grad"} and "screen_grad_abs" not in without
    assert float(alone["screen_grad_abs"].max()) > 0
    torch.testing.assert_close(
        alone.pop("screen_grad_abs"), both["screen_grad_abs"], rtol=1e-5, atol=1e-9
    )
    for name, gradient in alone.items():
        assert torch.equal(gradient, both[name]) and torch.equal(gradient, without[name]), name


@pytest.mark.parametrize(
    "images", [("features",), ("color", "normal"), ("depth",), ("distortion",), ("alpha",)]
)
@pytest.mark.parametrize(
    "wanted", [("features",), ("sh",), ("opacities",), ("rotations", "scales"), ("means", "sh")]
)
@both_kinds
def test_gradients_do_not_depend_on_what_else_is_wanted(make, wanted, images):
    splats = detached(make(150, seed=12, sh_degree=2, channels=19), torch.float32)
    view = make_view(30, 21, sh_degree=2)

    def gradients(names):
        copy = map_tensors(splats, torch.clone)
        for name in names:
            getattr(copy, name).requires_grad_()
        random_loss(rasterize_cpu(copy, view), 0, images).backward()
        return {name: getattr(copy, name).grad for name in names}

    every = gradients(("means", "scales", "rotations", "opacities", "sh", "features"))
    for name, gradient in gradients(wanted).items():
        assert torch.equal(gradient, every[name]), name


def test_the_longest_side_counts_tiles_in_sixteen_bits():
    """The last tile of the longest image is drawn; one pixel more is refused."""
    longest = 65535 * 16
    surfels = detached(random_surfels(20, seed=4, log_scale=(-2.0, 0.0)), torch.float32)
    view = make_view(longest, 1, cx=longest - 12.0)
    assert float(rasterize_cpu(surfels, view).alpha[0, 0, -16:].max()) > 0
    with pytest.raises(ValueError, match=r"width and height must be 1 \.\. 1048560, got 1048561"):
        rasterize_cpu(surfels, replace(view, width=longest + 1))


@pytest.mark.parametrize("near", [0.01, 0.3])
@pytest.mark.parametrize("opacity", [0.006, 0.08, 0.9])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bounds_of_splats_across_the_camera_lose_no_pixel(seed, opacity, near):
    surfels, view = crossing_splats(seed, opacity), make_view(150, 110, near=near)
    double = map_tensors(surfels, lambda t: t.double())
    exact = blend_weights(double, view, backend="reference")
    found = blend_weights(surfels, view, backend="cpu")
    dense = [dense_rows(table) for table in (exact, found)]
    lost = (dense[0] > 0) != (dense[1] > 0)
    assert len(exact.splat) > 10_000
    assert float(lost.sum()) <= 2e-3 * len(exact.splat), "more than weights at a threshold"
    # What differs is as faint as the faintest that is drawn, and what hides behind it.
    assert float(((dense[0] - dense[1]) * lost).abs().max()) < 1.5 / 255


def test_splats_across_the_camera_are_listed_near_where_they_show():
    assert_listed_where_they_show(rasterize_cpu)


def test_a_picture_in_inference_mode_does_not_spoil_training():
    """What stands for missing tensors is kept between calls, and must not remember the mode."""
    surfels, view = detached(random_surfels(50, seed=12), torch.float32), make_view(20, 15)
    native._empty.cache_clear()
    with torch.inference_mode():
        rasterize_cpu(surfels, view)
    wanted = map_tensors(surfels, lambda t: t.clone().requires_grad_())
    random_loss(rasterize_cpu(wanted, view), 0).backward()
    assert wanted.means.grad is not None and bool(wanted.means.grad.any())
