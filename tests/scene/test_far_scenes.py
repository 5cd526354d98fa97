# SPDX-License-Identifier: Apache-2.0
"""Scenes in the coordinates of maps: computed round a local origin, plain ones untouched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arguments import ModelParams
from scene.cameras import Camera
from scene.dataset import Scene, load_scene
from scene.frame import SceneFrame, local_origin
from scene.readers.colmap import ColmapCamera, ColmapPoints, write_colmap_model
from tests.scene.balls import SIZE, colmap_image, some_points, write_balls
from utils.ply import write_ply

UTM = np.array([512345.678, 5412345.678, 312.5])


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), no_masks=True, **changes), seed=0)


def write_far(source: Path, shift: NDArray, binary: bool = True, points: bool = True) -> None:
    """The balls' scene with its model moved by `shift`."""
    poses = write_balls(source, 6)
    images = []
    for index, pose in enumerate(poses):
        pose = pose.copy()
        pose[:3, 3] -= pose[:3, :3] @ shift
        images.append(colmap_image(index + 1, f"{index:03d}.png", pose))
    cloud = some_points()
    cloud = replace(cloud, positions=cloud.positions + shift)
    if not points:
        cloud = ColmapPoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    for path in (source / "sparse/0").iterdir():
        path.unlink()
    camera = ColmapCamera(1, "PINHOLE", *SIZE, (80.0, 80.0, 48.0, 36.0))
    write_colmap_model(source / "sparse/0", [camera], images, cloud, binary=binary)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shift", [UTM, -UTM, UTM * [0, 0, 100], UTM * 100])
def test_a_far_scene_is_the_near_one_moved(tmp_path: Path, shift: NDArray, binary: bool) -> None:
    write_far(tmp_path / "near", np.zeros(3))
    write_far(tmp_path / "far", shift, binary)
    near, far = load(tmp_path / "near"), load(tmp_path / "far")
    origin = np.array(far.frame.origin)
    rest = shift - origin  # what is left of the shift: below the scene's size
    assert np.abs(rest).max() < 10
    precision = 1e-15 * np.abs(shift).max() + 1e-6
    for view, plain in zip(far.train, near.train, strict=True):
        np.testing.assert_allclose(
            view.camera.center, plain.camera.center.numpy() + rest, atol=1e2 * precision
        )
        point = torch.from_numpy(near.points.positions.numpy() + rest)
        pixels, _ = view.camera.project(point)
        expected, _ = plain.camera.project(near.points.positions)
        np.testing.assert_allclose(pixels, expected, atol=1e3 * precision)
    np.testing.assert_allclose(
        far.points.positions, near.points.positions.numpy() + rest, atol=1e-6 + 1e2 * precision
    )
    assert far.extent == pytest.approx(near.extent, abs=1e3 * precision)
    assert any("frame.json" in text for text in far.notices)


def test_plain_scenes_keep_every_bit(tmp_path: Path) -> None:
    write_far(tmp_path, np.array([30.0, -20.0, 5.0]))
    scene = load(tmp_path)
    assert scene.frame.origin == (0.0, 0.0, 0.0) and scene.notices == ()
    moved = (some_points().positions + [30.0, -20.0, 5.0]).astype(np.float32)
    np.testing.assert_array_equal(scene.points.positions.numpy(), moved)
    camera = scene.train[0].camera
    assert camera.moved((0.0, 0.0, 0.0)) is camera


def test_up_is_in_the_frame(tmp_path: Path) -> None:
    write_far(tmp_path, UTM)
    frame = load(tmp_path).frame
    assert frame.up is not None
    np.testing.assert_allclose(frame.up, (0, 1, 0), atol=1e-9)
    (tmp_path / "scene.json").write_text(json.dumps({"up": [0, 0, 2]}))
    assert load(tmp_path).frame.up == (0, 0, 1)
    (tmp_path / "scene.json").write_text(json.dumps({"up": "north"}))
    up = load(tmp_path).frame.up
    assert up is not None and up[1] > 0.99


def test_a_run_keeps_its_own_origin(tmp_path: Path) -> None:
    write_far(tmp_path, UTM)
    frame = SceneFrame((512000.0, 5412000.0, 0.0))
    scene = load_scene(ModelParams(str(tmp_path), no_masks=True), seed=0, frame=frame)
    assert scene.frame == frame and not scene.notices
    center = scene.train[0].camera.center.numpy()
    assert abs(center[0] - 345.678) < 5


def test_points_of_a_ply(tmp_path: Path) -> None:
    write_far(tmp_path, UTM, points=False)
    cloud = some_points().positions
    body = "\n".join(" ".join(f"{v:.9f}" for v in row) for row in cloud + UTM)
    head = "ply\nformat ascii 1.0\nelement vertex 60\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    path = tmp_path / "sparse/0/points3D.ply"
    path.write_text(head + body + "\n")
    scene = load(tmp_path)
    expected = cloud + UTM - np.array(scene.frame.origin)
    np.testing.assert_allclose(scene.points.positions, expected, atol=1e-6)
    assert not any("single precision, in steps" in text for text in scene.notices)
    write_ply(path, dict(zip("xyz", (cloud + UTM).astype(np.float32).T, strict=True)))
    assert any("in steps of 0.5" in text for text in load(tmp_path).notices)


def test_random_points_are_where_the_cameras_look(tmp_path: Path) -> None:
    write_far(tmp_path, UTM, points=False)
    scene = load(tmp_path, random_points=100)
    assert float(scene.points.positions.norm(dim=1).max()) < 20


def camera_at(*center: float) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = -torch.tensor(center, dtype=torch.float64)
    return Camera(pose, 50, 50, 20, 15, 40, 30, "a.png", 0)


def test_the_origin_is_rounded_to_the_scenes_size() -> None:
    small = [camera_at(5.0, 0.0, 0.0), camera_at(5.012, 0.0, 0.0)]
    np.testing.assert_allclose(local_origin(small, None), (5.006, 0.0, 0.0), atol=5e-4)
    large = [camera_at(1e6, 0.0, 0.0), camera_at(1e6 + 5000, 0.0, 0.0)]
    assert local_origin(large, None)[0] % 1000 == 0
    assert local_origin([camera_at(40.0, 0.0, 0.0), camera_at(41.0, 0.0, 0.0)], None) == (0, 0, 0)
    # A single camera: its distance to the points is the scene's size.
    points = np.array([[1e6, 0.0, 10.0]])
    assert local_origin([camera_at(1e6, 0.0, 0.0)], points)[0] == 1e6
    assert local_origin([camera_at(50.0, 0.0, 0.0)], np.zeros((1, 3))) == (0, 0, 0)
