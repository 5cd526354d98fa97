# SPDX-License-Identifier: Apache-2.0
"""Cameras: convention, resizing, projection and its inverse."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from scene.cameras import Camera, scene_extent


def make_camera(seed: int = 0, **changes: object) -> Camera:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    matrix[:3, 3] = torch.tensor([0.3, -0.2, 5.0])
    fields = dict(
        world_to_view=matrix,
        fx=50.0,
        fy=55.0,
        cx=33.0,
        cy=21.5,
        width=64,
        height=48,
        name="a/b.png",
        uid=3,
    )
    return Camera(**{**fields, **changes})  # type: ignore[arg-type]


def test_centre_is_where_the_view_is_at_its_origin() -> None:
    camera = make_camera()
    there = camera.world_to_view @ torch.cat([camera.center, torch.ones(1, dtype=torch.float64)])
    torch.testing.assert_close(there[:3], torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    pixel, depth = camera.project((camera.center + 2 * camera.forward)[None])
    torch.testing.assert_close(pixel, torch.tensor([[33.0, 21.5]], dtype=torch.float64))
    assert float(depth) == pytest.approx(2.0)


def test_colmap_axes() -> None:
    camera = make_camera(world_to_view=torch.eye(4, dtype=torch.float64), cx=32.0, cy=24.0)
    pixels, _ = camera.project(torch.tensor([[1.0, 0, 10], [0, 1.0, 10]]))
    # x is right, y is down: 50 / 10 and 55 / 10 pixels from the middle.
    expected = torch.tensor([[37.0, 24.0], [32.0, 29.5]], dtype=torch.float64)
    torch.testing.assert_close(pixels, expected)


def test_projection_and_rays_are_inverse() -> None:
    camera = make_camera(7)
    pixels = torch.rand(20, 2, dtype=torch.float64) * 48
    directions = camera.ray_directions(pixels)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(20, dtype=torch.float64))
    back, depth = camera.project(camera.center + 3.7 * directions)
    torch.testing.assert_close(back, pixels)
    assert (depth > 0).all()


def test_resizing_moves_pixels_by_the_same_factor() -> None:
    camera = make_camera()
    small = camera.resized(16, 24)
    assert (small.width, small.height, small.name, small.uid) == (16, 24, "a/b.png", 3)
    points = torch.randn(10, 3)
    before, _ = camera.project(points)
    after, _ = small.project(points)
    torch.testing.assert_close(after, before * torch.tensor([0.25, 0.5]))
    assert small.fovx == pytest.approx(camera.fovx)
    assert camera.fovy == pytest.approx(2 * math.atan(48 / 110))


def test_extent_is_the_farthest_camera_from_their_mean() -> None:
    cameras = []
    for x in (0.0, 0.0, 6.0):
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[0, 3] = -x
        cameras.append(make_camera(world_to_view=matrix))
    assert scene_extent(cameras) == pytest.approx(1.1 * 4.0)
    assert scene_extent(cameras[:1]) == 0.0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="world_to_view"):
        make_camera(world_to_view=torch.eye(3))
    with pytest.raises(ValueError, match="0x48"):
        make_camera(width=0)
