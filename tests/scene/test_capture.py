# SPDX-License-Identifier: Apache-2.0
"""transforms.json as nerfstudio, instant-ngp, Polycam and Record3D leave it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from scene.readers.colmap import write_colmap_model
from scene.readers.colmap.model import ColmapPoints
from tests.scene.balls import SIZE, cast, ring_poses, some_points, write_balls
from utils.errors import DataError, FormatError
from utils.ply import write_ply

TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# nerfstudio's own turn of COLMAP's world: y and z change places.
APPLIED = np.array([[1.0, 0, 0, 0.5], [0, 0, 1, 0], [0, -1, 0, 0]])
VIEWS = 6
MakeCapture = Callable[..., Path]


def load(source: Path, **changes: Any) -> Scene:
    params = ModelParams(str(source), **{"random_points": 50, **changes})
    return load_scene(params, seed=0)


@pytest.fixture
def make_capture(tmp_path: Path) -> MakeCapture:
    """make_capture(changes of the record...) -> a scene folder with transforms.json alone."""

    def build(per_frame: dict[str, Any] | None = None, **changes: Any) -> Path:
        source = tmp_path / "capture"
        write_balls(source, VIEWS)
        for path in (source / "sparse/0").iterdir():
            path.unlink()
        turn = np.vstack([APPLIED, [0, 0, 0, 1]])
        frames = [
            {
                "file_path": f"images/{i:03d}.png",
                "transform_matrix": (turn @ np.linalg.inv(pose) @ TO_OPENGL).tolist(),
                **(per_frame or {}),
            }
            for i, pose in enumerate(ring_poses(VIEWS))
        ]
        record = {
            "camera_model": "OPENCV",
            **{"w": SIZE[0], "h": SIZE[1], "fl_x": 80.0, "fl_y": 80.0, "cx": 48.0, "cy": 36.0},
            **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
            "applied_transform": APPLIED.tolist(),
            "frames": frames,
        }
        record.update(changes)
        text = {key: value for key, value in record.items() if value is not None}
        (source / "transforms.json").write_text(json.dumps(text))
        return source

    return build


def check_world(scene: Scene) -> None:
    """The views' cameras see what their photographs show."""
    undo = np.linalg.inv(np.vstack([APPLIED, [0, 0, 0, 1]]))
    for view in (*scene.train, *scene.test):
        camera = view.camera
        pose = camera.world_to_view.numpy() @ np.linalg.inv(undo)
        size = (camera.width, camera.height)
        photo, _ = cast(pose, (camera.fx, camera.fy, camera.cx, camera.cy), size)
        shown = view.image.numpy().transpose(1, 2, 0) * 255
        assert np.abs(shown - photo).mean() < 0.6


def test_a_capture_of_nerfstudio(make_capture: MakeCapture) -> None:
    source = make_capture(ply_file_path="sparse_pc.ply")
    cloud = some_points().positions @ APPLIED[:, :3].T + APPLIED[:, 3]
    colors = dict.fromkeys(("red", "green", "blue"), np.full(60, 51, np.uint8))
    write_ply(source / "sparse_pc.ply", {**dict(zip("xyz", cloud.T, strict=True)), **colors})
    scene = load(source, eval=True)
    assert (scene.kind, len(scene.train), len(scene.test)) == ("transforms", 5, 1)
    assert scene.notices == () and scene.model is None
    check_world(scene)
    np.testing.assert_allclose(scene.points.positions, cloud, atol=1e-6)
    assert float(scene.points.colors.max()) == pytest.approx(0.2)
    assert scene.id_table is not None and scene.id_table.originals == (1, 2, 3)


def test_intrinsics_of_each_frame_win(make_capture: MakeCapture) -> None:
    nothing = dict.fromkeys(("w", "h", "fl_x", "fl_y", "cx", "cy"))
    own = {"w": 96, "h": 72, "fl_x": 80.0, "fl_y": 80.0, "cx": 48.0, "cy": 36.0}
    scene = load(make_capture(own, **nothing))
    check_world(scene)


@pytest.mark.parametrize(
    "numbers",
    [
        {"camera_angle_x": 2 * math.atan(48 / 80)},
        {"camera_angle_y": 2 * math.atan(36 / 80)},
        {"fl_x": 80.0},
        {"fl_y": 80.0},
    ],
)
def test_ways_to_say_the_focal_length(make_capture: MakeCapture, numbers: dict[str, float]) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("w", "h", "fl_x", "fl_y", "cx", "cy"))
    check_world(load(make_capture(**{**nothing, **numbers})))


def test_the_files_own_split(make_capture: MakeCapture) -> None:
    names = [f"images/{i:03d}.png" for i in range(VIEWS)]
    split = {
        "train_filenames": names[:3],
        "val_filenames": names[3:5],
        "test_filenames": [names[4]],
    }
    source = make_capture(**split)
    scene = load(source, eval=True)
    assert [view.name for view in scene.train] == names[:3]
    assert [view.name for view in scene.test] == names[3:5]
    assert any("1 of 6 frames are in neither split" in text for text in scene.notices)
    assert len(load(source).train) == VIEWS
    source = make_capture(test_filenames=["images/001.png"])
    assert [view.name for view in load(source, eval=True).test] == ["images/001.png"]
    source = make_capture(train_filenames=names, test_filenames=names[:1])
    with pytest.raises(FormatError, match="both splits"):
        load(source, eval=True)
    source = make_capture(train_filenames="all")
    with pytest.raises(FormatError, match="train_filenames must be a list"):
        load(source, eval=True)


def test_smaller_copies(make_capture: MakeCapture) -> None:
    from PIL import Image

    source = make_capture(train_filenames=[f"images/{i:03d}.png" for i in range(1, VIEWS)])
    (source / "images_2").mkdir()
    for path in (source / "images").iterdir():
        small = Image.open(path).resize((48, 36), Image.Resampling.BOX)
        small.save(source / "images_2" / path.with_suffix(".jpg").name, quality=95)
    scene = load(source, images="images_2", eval=True)
    assert scene.train[0].name == "images_2/001.jpg" and len(scene.train) == VIEWS - 1
    assert (scene.train[0].camera.width, scene.train[0].camera.fx) == (48, 40.0)
    assert scene.train[0].masks is not None


def test_paths_of_another_machine(make_capture: MakeCapture) -> None:
    source = make_capture()
    record = json.loads((source / "transforms.json").read_text())
    for prefix in ("/home/me/data/capture/", "C:\\data\\capture\\", "../capture/", "./"):
        for index, frame in enumerate(record["frames"]):
            frame["file_path"] = f"{prefix}images/{index:03d}.png".replace(
                "/" if "\\" in prefix else "\0", "\\"
            )
        (source / "transforms.json").write_text(json.dumps(record))
        check_world(load(source))
    record["frames"][0]["file_path"] = "/home/me/data/capture/elsewhere/999.png"
    (source / "transforms.json").write_text(json.dumps(record))
    with pytest.raises(FormatError, match="absolute"):
        load(source)


def test_a_byte_order_mark_and_a_matrix_of_three_rows(make_capture: MakeCapture) -> None:
    source = make_capture()
    record = json.loads((source / "transforms.json").read_text())
    for frame in record["frames"]:
        frame["transform_matrix"] = frame["transform_matrix"][:3]
    text = json.dumps(record)
    for encoding in ("utf-8-sig", "utf-16"):
        (source / "transforms.json").write_text(text, encoding=encoding)
        check_world(load(source))


def test_points_of_colmap_follow_the_applied_transform(make_capture: MakeCapture) -> None:
    source = make_capture(applied_scale=1.0)
    other = source.parent / "model"
    write_balls(other, VIEWS)
    (source / "colmap/sparse").mkdir(parents=True)
    (other / "sparse/0").rename(source / "colmap/sparse/0")
    scene = load(source)
    assert (scene.kind, len(scene.points)) == ("transforms", 60)
    expected = some_points().positions @ APPLIED[:, :3].T + APPLIED[:, 3]
    np.testing.assert_allclose(scene.points.positions, expected, atol=1e-6)
    # Where the transform does not bring the model's cameras to the file's it is not believed.
    source = make_capture(applied_transform=np.eye(4)[:3].tolist())
    scene = load(source)
    assert len(scene.points) == 50 and any("random points" in text for text in scene.notices)
    assert load(source, sparse="0").kind == "colmap"


def test_a_colmap_model_in_sparse_comes_first(make_capture: MakeCapture) -> None:
    source = make_capture()
    write_balls(source, VIEWS)
    assert load(source).kind == "colmap"


def test_without_points_random_ones_round_the_focus(make_capture: MakeCapture) -> None:
    scene = load(make_capture())
    assert len(scene.points) == 50
    away = scene.points.positions.double() - torch.tensor([0.5, 0.0, -0.3], dtype=torch.float64)
    assert float(away.norm(dim=1).max()) < 1.5 * 3.5
    assert any("sparse_pc.ply" in text for text in scene.notices)


def test_a_named_cloud_that_is_not_there(make_capture: MakeCapture) -> None:
    with pytest.raises(DataError, match="ply_file_path names lost.ply"):
        load(make_capture(ply_file_path="lost.ply"))
    with pytest.raises(FormatError, match="ply_file_path.*leaves"):
        load(make_capture(ply_file_path="../lost.ply"))


def test_a_linked_folder_of_photographs(make_capture: MakeCapture) -> None:
    source = make_capture()
    (source / "images").rename(source.parent / "photos")
    (source / "images").symlink_to(source.parent / "photos")
    assert len(load(source).train) == VIEWS


def test_fisheye(make_capture: MakeCapture) -> None:
    scene = load(make_capture(camera_model="OPENCV_FISHEYE"))
    assert any("OPENCV_FISHEYE" in text for text in scene.notices)
    assert load(make_capture(camera_model=None, is_fisheye=True)).notices == scene.notices


def test_an_empty_model_is_no_points(make_capture: MakeCapture) -> None:
    source = make_capture()
    poses = ring_poses(2)
    from scene.readers.colmap import ColmapCamera
    from tests.scene.balls import colmap_image

    camera = ColmapCamera(1, "PINHOLE", *SIZE, (80.0, 80.0, 48.0, 36.0))
    nothing = ColmapPoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    images = [colmap_image(i + 1, f"{i:03d}.png", pose) for i, pose in enumerate(poses)]
    write_colmap_model(source / "colmap/sparse/0", [camera], images, nothing)
    assert len(load(source).points) == 50
