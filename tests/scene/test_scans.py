# SPDX-License-Identifier: Apache-2.0
"""Scans with poses as text files: ScanNet, and the data of Panoptic Lifting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from tests.scene.balls import SIZE, cast, ring_poses, some_points, write_balls
from utils.errors import DataError, FormatError
from utils.ply import write_ply

VIEWS = 6
FOCAL, CENTER = 80.0, (47.5, 35.5)  # of whole-numbered pixel centres


def text(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(f"{value:.9f}" for value in row) for row in matrix)


def load(source: Path, **changes: Any) -> Scene:
    params = {"random_points": 50, "object_path": "rs_instance", **changes}
    return load_scene(ModelParams(str(source), **params), seed=0)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scene as Panoptic Lifting prepares Replica: photographs 0_0000.jpg and so on."""
    for folder in ("color", "pose", "intrinsic", "rs_instance", "rs_semantics"):
        (tmp_path / folder).mkdir()
    intrinsics = np.eye(4)
    intrinsics[0, 0] = intrinsics[1, 1] = FOCAL
    intrinsics[:2, 2] = CENTER
    (tmp_path / "intrinsic/intrinsic_color.txt").write_text(text(intrinsics))
    for index, pose in enumerate(ring_poses(VIEWS)):
        photo, ids = cast(pose, (FOCAL, FOCAL, CENTER[0] + 0.5, CENTER[1] + 0.5), SIZE)
        name = f"0_{index:04d}"
        Image.fromarray(photo).save(tmp_path / f"color/{name}.jpg", quality=98)
        Image.fromarray(ids).save(tmp_path / f"rs_instance/{name}.png")
        (tmp_path / f"pose/{name}.txt").write_text(text(np.linalg.inv(pose)) + "\n")
    names = [f"0_{i:04d}" for i in range(VIEWS)]
    split = {"train": names[:4], "test": names[4:]}
    (tmp_path / "splits.json").write_text(json.dumps(split))
    return tmp_path


def test_the_cameras_see_what_the_photographs_show(scan: Path) -> None:
    scene = load(scan, eval=True)
    assert (scene.kind, len(scene.train)) == ("scan", 4)
    assert [view.name for view in scene.test] == ["0_0004.jpg", "0_0005.jpg"]
    assert scene.id_table is not None and scene.id_table.originals == (1, 2, 3)
    for view in (*scene.train, *scene.test):
        c = view.camera
        photo, ids = cast(c.world_to_view.numpy(), (c.fx, c.fy, c.cx, c.cy), SIZE)
        shown = view.image.numpy().transpose(1, 2, 0) * 255
        assert np.abs(shown - photo).mean() < 2.5  # JPEG
        assert view.masks is not None
        np.testing.assert_array_equal(view.masks.label_map, ids)
    assert len(load(scan).train) == VIEWS  # without --eval


def test_lost_poses_are_left_out_and_counted(scan: Path) -> None:
    (scan / "pose/0_0001.txt").write_text("\n".join(["-inf -inf -inf -inf"] * 4))
    (scan / "pose/0_0002.txt").unlink()
    scene = load(scan)
    assert [v.name for v in scene.train] == [f"0_{i:04d}.jpg" for i in (0, 3, 4, 5)]
    assert any("2 of 6 photographs have no pose or one that is not fin" in n for n in scene.notices)


def test_the_mesh_of_a_scan_gives_the_first_points(scan: Path) -> None:
    points = some_points().positions
    write_ply(scan / "scene0423_02_vh_clean_2.ply", dict(zip("xyz", points.T, strict=True)))
    np.testing.assert_allclose(load(scan).points.positions, points, atol=1e-6)


def test_frames_in_neither_split_are_left_out(scan: Path) -> None:
    (scan / "splits.json").write_text(
        json.dumps({"train": ["0_0000", "0_0001"], "val": ["0_0003"]})
    )
    scene = load(scan, eval=True)
    assert (len(scene.train), [v.name for v in scene.test]) == (2, ["0_0003.jpg"])
    assert any("3 of 6 frames are in neither split" in notice for notice in scene.notices)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("pose/0_0000.txt", "1 2 3", "0_0000.txt: expected a matrix of 4 x 4"),
        ("pose/0_0000.txt", "one", "0_0000.txt: not a matrix of numbers"),
        ("pose/0_0000.txt", text(np.diag([1.0, 1, 2, 1])), "0_0000.txt: the upper left"),
        ("intrinsic/intrinsic_color.txt", text(np.zeros((3, 3))), "focal lengths must be posit"),
        ("splits.json", "{}", "expected lists 'train' and 'test'"),
        ("splits.json", '{"train": "all"}', "'train' must be a list"),
    ],
)
def test_what_is_wrong_is_one_sentence(scan: Path, file: str, content: str, words: str) -> None:
    (scan / file).write_text(content)
    with pytest.raises(FormatError, match=words):
        load(scan, eval=True)


def test_a_scan_without_photographs_or_poses(scan: Path) -> None:
    with pytest.raises(DataError, match=r"rgb: no photographs; -i names"):
        load(scan, images="rgb")
    for path in (scan / "pose").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of the 6 photographs has a pose"):
        load(scan)


def test_the_photographs_of_scannetpp(tmp_path: Path) -> None:
    """dslr/: colmap/, resized_images/ and a list of what is held out."""
    write_balls(tmp_path, VIEWS)
    (tmp_path / "sparse/0").rename(tmp_path / "colmap")
    (tmp_path / "images").rename(tmp_path / "resized_images")
    names = [f"{i:03d}.png" for i in range(VIEWS)]
    lists = {"train": names[:4], "test": names[5:], "has_masks": True}
    (tmp_path / "train_test_lists.json").write_text(json.dumps(lists))
    options = {"images": "resized_images", "object_path": "object_mask"}
    scene = load(tmp_path, eval=True, **options)
    assert [view.name for view in scene.train] == names[:4]
    assert [view.name for view in scene.test] == names[5:]
    assert any("1 of 6 frames are in neither split" in notice for notice in scene.notices)
    assert len(load(tmp_path, **options).train) == VIEWS
    with pytest.raises(DataError, match="--images resized_images has 6 of the model's 6"):
        load(tmp_path, object_path="object_mask")
