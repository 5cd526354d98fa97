# SPDX-License-Identifier: Apache-2.0
"""The renderer against what a plane must look like, and Eq. 1 against its own weights."""

from __future__ import annotations

import pytest
import torch

from gaussian_renderer import back_project, depth_to_normal, render, splat, view_weights
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel


def make_camera(tilt: float = 0.0, width: int = 40, height: int = 30) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    c, s = torch.cos(torch.tensor(tilt)).item(), torch.sin(torch.tensor(tilt)).item()
    pose[:3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.1, -0.2, 0.3])
    return Camera(
        world_to_view=pose,
        fx=45.0,
        fy=47.0,
        cx=18.5,
        cy=16.0,
        width=width,
        height=height,
        name="a.png",
        uid=0,
    )


def make_splats(scale_dims: int = 2, n: int = 60, seed: int = 0) -> GaussianModel:
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(n, 3, generator=g) * torch.tensor([3.0, 2.0, 1.0])
    means += torch.tensor([-1.5, -1.0, 2.5])
    return GaussianModel(
        {
            "means": means,
            "log_scales": torch.log(0.1 + 0.2 * torch.rand(n, scale_dims, generator=g)),
            "quaternions": torch.randn(n, 4, generator=g),
            "opacity_logits": torch.randn(n, 1, generator=g),
            "sh_dc": torch.randn(n, 1, 3, generator=g),
            "sh_rest": torch.zeros(n, 3, 3),
            "instance": torch.randn(n, 5, generator=g),
        }
    )


both_kinds = pytest.mark.parametrize("scales", [2, 3], ids=["discs", "ellipsoids"])


def test_normals_of_a_tilted_plane_are_exact() -> None:
    camera = make_camera(tilt=0.4)
    normal = torch.nn.functional.normalize(
        torch.tensor([0.3, -0.2, -1.0], dtype=torch.float64), dim=0
    )
    point = torch.tensor([0.2, 0.1, 4.0], dtype=torch.float64)
    rotation, shift = camera.world_to_view[:3, :3], camera.world_to_view[:3, 3]
    center = -rotation.T @ shift
    x = (torch.arange(40, dtype=torch.float64) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(30, dtype=torch.float64) + 0.5 - camera.cy) / camera.fy
    rays = torch.stack(
        [x.expand(30, 40), y[:, None].expand(30, 40), torch.ones(30, 40, dtype=torch.float64)]
    )
    world_rays = torch.einsum("ji,jhw->ihw", rotation, rays)
    depth = ((point - center) @ normal) / torch.einsum("i,ihw->hw", normal, world_rays)
    points = back_project(camera, depth[None])
    distance = torch.einsum("i,ihw->hw", normal, points - point[:, None, None])
    assert distance.abs().max() < 1e-12
    found = depth_to_normal(camera, depth[None])
    assert (found[:, 1:-1, 1:-1] - normal[:, None, None]).abs().max() < 1e-9
    assert found[:, 0].abs().max() == 0  # no differences on the border


@both_kinds
def test_splat_is_equation_1_with_the_views_own_weights(scales: int) -> None:
    camera, splats = make_camera(), make_splats(scales)
    values = torch.randn(len(splats), 7, generator=torch.Generator().manual_seed(1))
    weights = view_weights(camera, splats)
    rows = torch.repeat_interleave(torch.arange(30 * 40), weights.row_start.diff())
    expected = torch.zeros(30 * 40, 7).index_add_(
        0, rows, weights.weight[:, None] * values[weights.splat.long()]
    )
    assert torch.allclose(splat(camera, splats, values).flatten(1).T, expected, atol=1e-5)


@both_kinds
def test_one_rendered_as_an_attribute_is_alpha_and_attributes_match_render(scales: int) -> None:
    camera, splats = make_camera(), make_splats(scales)
    rendered = render(camera, splats, torch.zeros(3))
    assert torch.allclose(
        splat(camera, splats, torch.ones(len(splats), 1)), rendered.alpha, atol=1e-6
    )
    assert torch.allclose(splat(camera, splats, splats.instance), rendered.instance, atol=1e-6)
    assert 0.2 < float(rendered.alpha.detach().mean()) < 1


@both_kinds
def test_background_fills_what_alpha_leaves(scales: int) -> None:
    camera, splats = make_camera(), make_splats(scales)
    black = render(camera, splats, torch.zeros(3))
    color = torch.tensor([0.2, 0.5, 0.9])
    other = render(camera, splats, color)
    expected = black.color + (1 - black.alpha) * color[:, None, None]
    assert torch.allclose(other.color, expected, atol=1e-6)


@both_kinds
def test_detached_geometry_gets_no_gradient_and_values_do(scales: int) -> None:
    camera, splats = make_camera(), make_splats(scales)
    splat(camera, splats, splats.instance).square().sum().backward()
    assert splats.params["instance"].grad is not None
    assert splats.params["means"].grad is None
    splat(camera, splats, splats.instance, detach_geometry=False).square().sum().backward()
    grad = splats.params["means"].grad
    assert grad is not None and float(grad.abs().max()) > 0


@both_kinds
@pytest.mark.parametrize("signal", ["signed", "absolute"])
def test_the_densification_signal_arrives(signal: str, scales: int) -> None:
    camera, splats = make_camera(), make_splats(scales)
    rendered = render(camera, splats, torch.zeros(3), screen_signal=signal)
    rendered.color.square().mean().backward()
    assert rendered.screen_grad.grad is not None
    visible = rendered.radii > 0
    assert float(rendered.screen_grad.grad[visible].norm()) > 0
    if signal == "absolute":
        assert float(rendered.screen_grad.grad.min()) >= 0
