# SPDX-License-Identifier: Apache-2.0
"""Closed forms that every backend of the build must reproduce."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from diff_surfel_rasterization import RasterSettings, Surfels, rasterize
from tests.rasterizer.scenes import (
    IMAGES,
    detached,
    fronto_parallel,
    make_view,
    map_tensors,
    random_surfels,
    stack,
)

IDENTITY = torch.eye(4, dtype=torch.float64)


def axis_view(width: int = 32, height: int = 24, **changes: object) -> RasterSettings:
    """A camera at the origin that looks along z, centred."""
    centred = {"cx": width / 2, "cy": height / 2, "world_to_view": IDENTITY}
    return make_view(width, height, **{**centred, **changes})


def render(surfels: Surfels, settings: RasterSettings, backend: str, kind: tuple) -> dict:
    """Images in float64 on the CPU."""
    dtype, device, _ = kind
    moved = map_tensors(surfels, lambda t: t.detach().to(device=device, dtype=dtype))
    moved_view = replace(
        settings,
        world_to_view=settings.world_to_view.to(device),
        background=settings.background.to(device),
    )
    output = rasterize(moved, moved_view, backend)
    images = {name: getattr(output, name).double().cpu() for name in IMAGES}
    return {**images, "radii": output.radii.cpu()}


def _about_x(angle: float) -> torch.Tensor:
    half = torch.tensor(angle / 2, dtype=torch.float64)
    return torch.stack([half.cos(), half.sin(), 0 * half, 0 * half])


def pixel_grid(settings: RasterSettings) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(settings.width, dtype=torch.float64) + 0.5
    y = torch.arange(settings.height, dtype=torch.float64) + 0.5
    return x[None, :].expand(settings.height, -1), y[:, None].expand(-1, settings.width)


def test_one_facing_splat(backend, backend_type):
    settings = axis_view()
    z, scale, opacity = 2.0, 0.4, 0.8
    images = render(stack(fronto_parallel(z, scale, opacity)), settings, backend, backend_type)
    x, y = pixel_grid(settings)
    rho = ((x - 16) * z / settings.fx / scale) ** 2 + ((y - 12) * z / settings.fy / scale) ** 2
    alpha = opacity * torch.exp(-rho / 2)
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
    tolerance = backend_type[2]
    assert float((images["alpha"][0] - alpha).abs().max()) < tolerance
    assert float((images["depth"][0] - alpha * z).abs().max()) < 2 * tolerance
    facing = torch.stack([0 * alpha, 0 * alpha, -alpha])
    assert float((images["normal"] - facing).abs().max()) < tolerance
    expected = alpha + (1 - alpha) * settings.background[:, None, None]
    assert float((images["color"] - expected).abs().max()) < tolerance
    assert float(images["distortion"].abs().max()) < tolerance
    # The 3 sigma box is 3 * 0.4 / 2 * f wide on each side.
    assert int(images["radii"][0]) == math.ceil(1.2 / z * max(settings.fx, settings.fy) - 1e-4)


def test_two_layers_over_a_background(backend, backend_type):
    settings = axis_view(8, 8, cx=4.5, cy=4.5)
    near = fronto_parallel(1.0, 5.0, 0.6, color=1.0)
    far = fronto_parallel(3.0, 5.0, 0.5, color=0.25)
    images = render(stack(far, near), settings, backend, backend_type)
    w1, w2, left = 0.6, 0.4 * 0.5, 0.4 * 0.5
    background = settings.background
    color = w1 * 1.0 + w2 * 0.25 + left * background
    at = (slice(None), 4, 4)
    tolerance = backend_type[2]
    assert float((images["color"][at] - color).abs().max()) < tolerance
    assert float(images["alpha"][at]) == pytest.approx(w1 + w2, abs=tolerance)
    assert float(images["depth"][at]) == pytest.approx(w1 * 1 + w2 * 3, abs=2 * tolerance)
    m1, m2 = (100 / 99.8 * (1 - 0.2 / z) for z in (1.0, 3.0))
    distortion = w1 * w2 * (m1 - m2) ** 2
    assert float(images["distortion"][at]) == pytest.approx(distortion, abs=tolerance)
    # T is 0.4 behind the first splat, so the median stays with it.
    assert float(images["median_depth"][at]) == pytest.approx(1.0, abs=tolerance)


def test_median_is_the_last_splat_reached_above_one_half(backend, backend_type):
    settings = axis_view(8, 8, cx=4.5, cy=4.5)
    layers = [fronto_parallel(z, 5.0, 0.3) for z in (1.0, 2.0, 3.0, 4.0)]
    images = render(stack(*layers), settings, backend, backend_type)
    # T before the layers: 1, 0.7, 0.49; the second is the last above one half.
    assert float(images["median_depth"][0, 4, 4]) == pytest.approx(2.0, abs=1e-5)
    tilted = render(stack(fronto_parallel(2.0, 0.05, 0.9)), axis_view(), backend, backend_type)
    assert float(tilted["median_depth"][0, 0, 0]) == 0.0


def test_depth_of_an_oblique_plane(backend, backend_type):
    settings = axis_view()
    angle = 1.0  # around x: n = (0, -sin, cos), so z(ray) = 2 cos / (cos - sin * ray_y)
    splat = fronto_parallel(2.0, 3.0, 0.9)
    splat["rotations"] = _about_x(angle)
    images = render(stack(splat), settings, backend, backend_type)
    _, y = pixel_grid(settings)
    ray_y = (y - settings.cy) / settings.fy
    z = 2 * math.cos(angle) / (math.cos(angle) - math.sin(angle) * ray_y)
    seen = images["alpha"][0] > 0.2
    assert int(seen.sum()) > 200
    ratio = images["depth"][0][seen] / images["alpha"][0][seen]
    assert float((ratio / z[seen] - 1).abs().max()) < 10 * backend_type[2]
    towards = torch.tensor([0.0, math.sin(angle), -math.cos(angle)], dtype=torch.float64)
    normal = images["normal"][:, seen] / images["alpha"][0][seen]
    assert float((normal - towards[:, None]).abs().max()) < 10 * backend_type[2]


def test_subpixel_splat_is_a_low_pass_dot(backend, backend_type):
    settings = axis_view(9, 9, cx=4.5, cy=4.5)
    images = render(stack(fronto_parallel(2.0, 1e-5, 0.8)), settings, backend, backend_type)
    x, y = pixel_grid(settings)
    dot = 0.8 * torch.exp(-((x - 4.5) ** 2) - (y - 4.5) ** 2)
    dot = torch.where(dot < 1 / 255, 0.0, dot)
    assert float((images["alpha"][0] - dot).abs().max()) < backend_type[2]
    assert int(images["radii"][0]) == 3  # ceil(3 * 0.7071)


def test_culled_splats_leave_the_background(backend, backend_type):
    behind, before = fronto_parallel(-2.0, 0.5, 0.9), fronto_parallel(0.19, 0.05, 0.9)
    beside = fronto_parallel(2.0, 0.05, 0.9)
    beside["means"] = torch.tensor([8.0, 0.0, 2.0])
    faint = fronto_parallel(2.0, 0.5, 0.0039)
    settings = axis_view()
    images = render(stack(behind, before, beside, faint), settings, backend, backend_type)
    assert images["radii"].tolist() == [0, 0, 0, 0]
    assert images["radii"].dtype == torch.int32
    flat = settings.background[:, None, None].expand(3, 24, 32)
    assert float((images["color"] - flat).abs().max()) < 1e-6
    for name in IMAGES[2:]:
        assert float(images[name].abs().max()) == 0.0


def test_empty_scene_and_its_backward(backend, backend_type):
    dtype, device, _ = backend_type
    empty = detached(random_surfels(3, seed=1))
    empty = map_tensors(empty, lambda t: t[:0].to(device=device, dtype=dtype).requires_grad_())
    background = torch.tensor([0.1, 0.2, 0.3], device=device)
    settings = axis_view(20, 17, background=background, world_to_view=IDENTITY.to(device))
    output = rasterize(empty, settings, backend)
    assert output.color.shape == (3, 17, 20) and output.radii.shape == (0,)
    assert float(output.alpha.detach().abs().max()) == 0.0
    (output.color.sum() + output.depth.sum()).backward()
    assert empty.means.grad is None or empty.means.grad.shape == (0, 3)


@pytest.mark.parametrize("channels", [0, 1, 5, 16, 19])
def test_any_number_of_channels(backend, backend_type, channels):
    surfels = random_surfels(20, seed=41, channels=channels, log_scale=(-2, -1))
    images = render(surfels, make_view(21, 13), backend, backend_type)
    assert images["features"].shape == (channels, 13, 21)
    if channels == 0:
        return
    # A feature is blended like a colour over black.
    first = surfels.features[:, :1].detach().expand(-1, 3)
    black = torch.zeros(3, dtype=torch.float64)
    as_color = replace(surfels, colors=first, features=None)
    expected = render(as_color, make_view(21, 13, background=black), backend, backend_type)
    assert float((images["features"][0] - expected["color"][0]).abs().max()) < backend_type[2]
    assert expected["features"].shape == (0, 13, 21)


def test_order_of_the_splats_does_not_matter(backend, backend_type):
    surfels = detached(random_surfels(50, seed=42, log_scale=(-2.5, -0.5)))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    settings = make_view(40, 30)
    images = render(surfels, settings, backend, backend_type)
    shuffled = render(map_tensors(surfels, lambda t: t[order]), settings, backend, backend_type)
    for name in IMAGES:
        assert float((images[name] - shuffled[name]).abs().max()) < 1e-6, name
    assert torch.equal(images["radii"][order], shuffled["radii"])


def test_equal_depths_keep_the_order_of_the_indices(backend, backend_type):
    settings = axis_view(8, 8, cx=4.5, cy=4.5)
    first, second = fronto_parallel(2.0, 5.0, 0.6, 1.0), fronto_parallel(2.0, 5.0, 0.6, 0.0)
    black = replace(settings, background=torch.zeros(3, dtype=torch.float64))
    for splats, expected in (((first, second), 0.6), ((second, first), 0.24)):
        images = render(stack(*splats), black, backend, backend_type)
        assert float(images["color"][0, 4, 4]) == pytest.approx(expected, abs=1e-5)


def test_mirrored_scene_gives_the_mirrored_image(backend, backend_type):
    surfels = detached(random_surfels(25, seed=43, log_scale=(-2.5, -0.5)))
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    turned = surfels.rotations * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    flipped = replace(surfels, means=surfels.means * mirror, rotations=turned)
    settings = axis_view(30, 22)
    images = render(surfels, settings, backend, backend_type)
    mirrored = render(flipped, settings, backend, backend_type)
    for name in ("color", "alpha", "depth", "median_depth"):
        assert float((images[name] - mirrored[name].flip(-1)).abs().max()) < 1e-4, name


def test_edge_on_splat_is_dropped(backend, backend_type):
    splat = fronto_parallel(2.0, 0.5, 0.9)
    splat["rotations"] = _about_x(math.pi / 2)
    images = render(stack(splat), axis_view(), backend, backend_type)
    assert int(images["radii"][0]) == 0
    assert float(images["alpha"].abs().max()) == 0.0
