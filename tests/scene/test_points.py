# SPDX-License-Identifier: Apache-2.0
"""The starting points: random ones, the cameras' ring, and seeds for empty surroundings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from arguments import ModelParams
from scene.cameras import Camera
from scene.dataset import load_scene
from scene.points import (
    PointCloud,
    background_seeds,
    camera_ring,
    mean_seen_color,
    open_cells,
    random_object_points,
    random_scene_points,
)
from scene.readers.points import read_point_ply
from utils.errors import FormatError
from utils.ply import write_ply

REAL = Path(__file__).parents[2].parent / "shared" / "data"
FOCUS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
RADIUS = 3.0


def look_at(center: torch.Tensor, target: torch.Tensor, uid: int = 0) -> Camera:
    forward = (target - center) / (target - center).norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    right = right / right.norm()
    down = torch.linalg.cross(forward, right)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.stack([right, down, forward])
    matrix[:3, 3] = -matrix[:3, :3] @ center
    return Camera(matrix, 60.0, 60.0, 40.0, 30.0, 80, 60, f"{uid}.png", uid)


@pytest.fixture
def ring() -> list[Camera]:
    """Twelve cameras on a circle that look at one point, slightly from above."""
    cameras = []
    for index in range(12):
        angle = torch.tensor(2 * np.pi * index / 12, dtype=torch.float64)
        offset = torch.stack([angle.cos(), angle.sin(), torch.tensor(0.1, dtype=torch.float64)])
        cameras.append(look_at(FOCUS + RADIUS * offset / offset.norm(), FOCUS, index))
    return cameras


def cloud(positions: torch.Tensor) -> PointCloud:
    return PointCloud(positions.float(), torch.full((len(positions), 3), 0.5))


def ball(count: int, radius: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return FOCUS + radius * direction / direction.norm(dim=1, keepdim=True)


def test_ring_of_an_orbit(ring: list[Camera]) -> None:
    focus, radius = camera_ring(ring)
    assert float((focus - FOCUS).norm()) < 0.02 * RADIUS
    assert radius == pytest.approx(RADIUS, rel=0.02)


def test_ring_of_parallel_and_single_cameras() -> None:
    far = torch.tensor([0.0, 1000.0, 0.0], dtype=torch.float64)
    cameras = []
    for x in (0.0, 1.0, 2.0):
        center = torch.tensor([x, 0.0, 0.0], dtype=torch.float64)
        cameras.append(look_at(center, center + far))
    focus, radius = camera_ring(cameras)
    assert torch.isfinite(focus).all() and 0 < radius < 10
    focus, radius = camera_ring(cameras[:1])
    assert torch.isfinite(focus).all() and radius > 0


def test_no_seeds_where_the_room_has_points(ring: list[Camera]) -> None:
    room = torch.cat([ball(500, 0.5), ball(8000, 4 * RADIUS)])
    holes, share = open_cells(ring, room, camera_ring(ring))
    assert share < 0.1 and holes.shape == (12, 12, 16)
    seeds = background_seeds(ring, cloud(room), 500, torch.Generator().manual_seed(0))
    assert len(seeds) == 0


def test_no_seeds_where_the_views_are_full(ring: list[Camera]) -> None:
    # A dense shell inside the ring blocks every view: nothing of the surroundings is seen.
    full = ball(40000, 0.8 * RADIUS)
    _, share = open_cells(ring, full, camera_ring(ring))
    assert share == 0.0
    assert len(background_seeds(ring, cloud(full), 500, torch.Generator().manual_seed(0))) == 0


def test_seeds_lie_outside_the_ring_and_in_the_holes(ring: list[Camera]) -> None:
    points = cloud(ball(3000, 0.7))
    focus, radius = camera_ring(ring)
    holes, share = open_cells(ring, points.positions, (focus, radius))
    assert share == 1.0
    seeds = background_seeds(ring, points, 800, torch.Generator().manual_seed(0))
    assert 700 <= len(seeds) <= 800
    reach = (seeds.positions.double() - focus).norm(dim=1) / radius
    assert float(reach.min()) >= 1.3 - 1e-4 and float(reach.max()) <= 6 + 1e-4
    # Half of them within the geometric middle of the range.
    assert float((reach < (1.3 * 6) ** 0.5).double().mean()) == pytest.approx(0.5, abs=0.08)
    # Every seed is in a hole of some view, at least of the one that it was made for.
    in_hole = torch.zeros(len(seeds), dtype=torch.bool)
    for camera, view_holes in zip(ring, holes, strict=True):
        pixels, depth = camera.project(seeds.positions)
        column, row = (pixels / 5).floor().long().unbind(dim=1)
        inside = (depth > 0) & (column >= 0) & (column < 16) & (row >= 0) & (row < 12)
        in_hole[inside] |= view_holes[row[inside], column[inside]]
    assert float(in_hole.double().mean()) > 0.99


def test_seeds_are_the_generators(ring: list[Camera]) -> None:
    points = cloud(ball(3000, 0.7))
    first, again, other = (
        background_seeds(ring, points, 100, torch.Generator().manual_seed(seed)).positions
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(background_seeds(ring, points, 0, torch.Generator())) == 0
    assert len(background_seeds(ring, PointCloud.empty(), 50, torch.Generator())) > 40


def test_seeds_wear_what_the_views_show(make_scene: Callable[..., Path]) -> None:
    scene = load_scene(ModelParams(str(make_scene()), no_masks=True), seed=0)
    view = scene.train[0]
    rays = view.camera.ray_directions(torch.tensor([[7.5, 3.5], [30.2, 20.9]]))
    positions = (view.camera.center + 2.0 * rays).float()
    colors = mean_seen_color(positions, [view])
    torch.testing.assert_close(colors, view.image[:, [3, 20], [7, 30]].T)
    both = mean_seen_color(positions, [view, view])
    torch.testing.assert_close(both, colors)
    behind = (view.camera.center - rays).float()
    assert torch.equal(mean_seen_color(behind, [view]), torch.full((2, 3), 0.5))


def test_random_points_fill_their_bounds(ring: list[Camera]) -> None:
    points = random_object_points(5000, torch.Generator().manual_seed(0))
    assert 1.25 < float(points.positions.abs().max()) <= 1.3
    assert float(points.colors.min()) >= 0 and float(points.colors.max()) <= 1
    points = random_scene_points(ring, 5000, torch.Generator().manual_seed(0))
    reach = (points.positions.double() - FOCUS).norm(dim=1) / RADIUS
    assert 1.4 < float(reach.max()) < 1.55
    # Evenly over the volume: an eighth lies within half the reach.
    assert float((reach < 0.75).double().mean()) == pytest.approx(0.125, abs=0.02)


def test_ply_round_trip_and_faults(tmp_path: Path) -> None:
    points = random_object_points(30, torch.Generator().manual_seed(0))
    path = tmp_path / "points.ply"
    points.save(path)
    read = read_point_ply(path, (0, 0, 0), [])
    assert torch.equal(read.positions, points.positions)
    assert float((read.colors - points.colors).abs().max()) <= 0.5 / 255 + 1e-6
    xyz = {key: np.zeros(3, np.float32) for key in "xyz"}
    write_ply(path, xyz)
    assert torch.equal(read_point_ply(path, (0, 0, 0), []).colors, torch.full((3, 3), 0.5))
    write_ply(path, {"x": xyz["x"], "y": xyz["y"]})
    with pytest.raises(FormatError, match="columns x, y, z"):
        read_point_ply(path, (0, 0, 0), [])
    rgb = {key: np.full(3, 300, np.int32) for key in ("red", "green", "blue")}
    write_ply(path, {**xyz, **rgb})
    with pytest.raises(FormatError, match="0..255"):
        read_point_ply(path, (0, 0, 0), [])
    joined = points.joined(PointCloud.empty()).joined(points)
    assert len(joined) == 60 and torch.equal(joined.colors[30:], points.colors)


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("mlp_table", True),
        ("tracebot_003", True),
        ("bonsai", False),
    ],
)
def test_real_surroundings(name: str, empty: bool) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("the real scenes are not here")
    scene = load_scene(ModelParams(str(REAL / name), no_masks=True), seed=0)
    cameras = [view.camera for view in scene.train[::4]]
    seeds = background_seeds(cameras, scene.points, 1000, torch.Generator().manual_seed(0))
    assert (len(seeds) > 900) == empty and (len(seeds) == 0) != empty
