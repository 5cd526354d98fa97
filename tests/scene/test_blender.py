# SPDX-License-Identifier: Apache-2.0
"""Scenes with transforms files: convention, intrinsics, transparent photographs, faults."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from utils.errors import DataError, FormatError

# A camera at (0, 0, 4) that looks along its own -z at the origin, as Blender puts it.
POSE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]


def write_transforms(source: Path, split: str, count: int, **changes: Any) -> None:
    (source / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(count):
        rgba = np.zeros((20, 30, 4), np.uint8)
        rgba[:, :15] = (200, 100, 50, 255)
        Image.fromarray(rgba).save(source / split / f"r_{index}.png")
        pose = [list(row) for row in POSE]
        pose[0][3] = float(index)
        frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": pose})
    record = {"camera_angle_x": math.pi / 2, "frames": frames, **changes}
    (source / f"transforms_{split}.json").write_text(json.dumps(record))


def load(source: Path, **changes: Any) -> Scene:
    params = ModelParams(str(source), no_masks=True, random_points=100, **changes)
    return load_scene(params, seed=0)


def test_pose_and_focal_length(tmp_path: Path) -> None:
    write_transforms(tmp_path, "train", 3)
    scene = load(tmp_path)
    camera = scene.train[0].camera
    assert (scene.kind, camera.name) == ("blender", "train/r_0.png")
    # 90 degrees over 30 pixels: f = 15. Blender's up is our -y.
    assert (camera.fx, camera.fy) == (pytest.approx(15), pytest.approx(15))
    pixels, depth = camera.project(torch.tensor([[0.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]]))
    expected = torch.tensor([[15, 10], [15, 10 - 3.75], [18.75, 10]], dtype=torch.float64)
    torch.testing.assert_close(pixels, expected)
    torch.testing.assert_close(depth, torch.full((3,), 4.0, dtype=torch.float64))
    assert scene.extent == pytest.approx(1.1)


@pytest.mark.parametrize(("white", "empty"), [(False, 0.0), (True, 1.0)])
def test_transparent_pixels_show_the_background(tmp_path: Path, white: bool, empty: float) -> None:
    write_transforms(tmp_path, "train", 2)
    image = load(tmp_path, white_background=white).train[0].image
    assert image.shape == (3, 20, 30)
    torch.testing.assert_close(image[:, 5, 3], torch.tensor([200, 100, 50]) / 255.0)
    assert float(image[:, :, 15:].min()) == float(image[:, :, 15:].max()) == empty


def test_the_files_own_split_and_random_points(tmp_path: Path) -> None:
    write_transforms(tmp_path, "train", 3)
    write_transforms(tmp_path, "test", 2)
    scene = load(tmp_path, eval=True)
    assert [len(scene.train), len(scene.test)] == [3, 2]
    assert all(view.name.startswith("test/") for view in scene.test)
    assert len(load(tmp_path).train) == 5
    assert len(scene.points) == 100 and float(scene.points.positions.abs().max()) <= 1.3
    assert any("--random_init" in notice for notice in scene.notices)


def test_explicit_intrinsics_win_and_follow_the_resolution(tmp_path: Path) -> None:
    write_transforms(tmp_path, "train", 2, fl_x=40.0, fl_y=44.0, cx=14.0, cy=9.0, w=30, h=20)
    camera = load(tmp_path, resolution=2).train[0].camera
    assert (camera.width, camera.height) == (15, 10)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (20, 22, 7, 4.5)


def frames_with(**changes: Any) -> dict[str, Any]:
    frame = {"file_path": "train/r_0", "transform_matrix": POSE, **changes}
    return {"frames": [frame]}


FAULTS: dict[str, dict[str, Any]] = {
    "frames": {"frames": []},
    "expected an object": {"frames": [3]},
    "file_path": frames_with(file_path=3),
    "leaves the images folder": frames_with(file_path="../r_0"),
    "no file name": frames_with(file_path="train/\ud800"),
    "not a rotation": frames_with(transform_matrix=[[1, 1, 0, 0], *POSE[1:]]),
    "4x4": frames_with(transform_matrix=[[1, 2], [3, 4]]),
    "matrix of numbers": frames_with(transform_matrix="abc"),
    "finite 4x4": frames_with(transform_matrix=[[float("nan")] * 4, *POSE[1:]]),
    "singular": frames_with(transform_matrix=[[0, 0, 0, 0], *POSE[1:]]),
    "k4 to k6": {"k4": 0.1},
    "a fisheye has k1 to k4": {"is_fisheye": True, "p1": 0.1},
    "camera_model 'EQUIRECTANGULAR' is not known": {"camera_model": "EQUIRECTANGULAR"},
    "camera_angle_x": {"camera_angle_x": 4.0},
    "positive": {"fl_x": -1},
    "cx is not": {"cx": "middle"},
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_name_the_file(tmp_path: Path, message: str) -> None:
    write_transforms(tmp_path, "train", 2, **FAULTS[message])
    with pytest.raises(FormatError, match=message) as caught:
        load(tmp_path)
    assert "transforms_train.json" in str(caught.value)


def test_missing_photographs_are_listed(tmp_path: Path) -> None:
    write_transforms(tmp_path, "train", 3)
    (tmp_path / "train/r_1.png").unlink()
    with pytest.raises(DataError, match="1 of 3 images are missing.*r_1"):
        load(tmp_path)
    assert len(load(tmp_path, skip_missing=True).train) == 2
