# SPDX-License-Identifier: Apache-2.0
"""Files for viewers stand upright and tell how to undo it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scene.frame import SceneFrame
from scene.splat_files.frames import (
    frame_comments,
    stated_origin,
    stated_rotation,
    upright_rotation,
    viewer_comments,
)
from scene.splat_files.splat_file import in_frame, read_splats, write_splats
from tests.scene.splat_files.formula import discs
from utils.errors import FormatError
from utils.ply import read_ply, read_ply_file


@pytest.mark.parametrize(
    "up", [(0, 0, 1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (0.6, -0.64, 0.48), (1e-9, 1, 0)]
)
def test_up_becomes_minus_y_by_the_smallest_rotation(up: tuple[float, float, float]) -> None:
    turn = upright_rotation(SceneFrame(up=up))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn @ up, [0, -1, 0], atol=1e-8)
    # The angle of a rotation is in its trace; none smaller moves `up` as far.
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    assert angle == pytest.approx(np.arccos(np.clip(-up[1], -1, 1)), abs=1e-7)


@pytest.mark.parametrize("frame", [None, SceneFrame(), SceneFrame(origin=(1.0, 2.0, 3.0))])
def test_nothing_is_turned_where_up_is_unknown(frame: SceneFrame | None) -> None:
    assert np.array_equal(upright_rotation(frame), np.eye(3))
    assert not any("Vertical axis" in line for line in viewer_comments(frame, np.eye(3)))


def test_a_viewer_file_stands_upright_and_is_read_back_in_the_runs_coordinates(
    tmp_path: Path,
) -> None:
    raw, frame = discs(degree=3), SceneFrame((512345.678, -1e-3, 7.0), (0.0, 0.0, 1.0))
    write_splats(tmp_path / "v.ply", raw, viewer=True, labels=np.arange(270), frame=frame)
    columns = read_ply(tmp_path / "v.ply")
    np.testing.assert_allclose(columns["y"], -raw["means"][:, 2], atol=1e-6)
    comments = read_ply_file(tmp_path / "v.ply").comments
    assert "SplatRenderMode: 2dgs" in comments and "Vertical axis: y" in comments
    file = read_splats(tmp_path / "v.ply")
    assert file.kind == "2dgs" and file.labels is not None
    assert file.labels.tolist() == list(range(270))
    assert file.frame is not None and file.frame.origin == frame.origin
    assert len(file.notices) == 1 and "turned back" in file.notices[0]
    for name in ("means", "log_scales", "quaternions", "sh_dc", "sh_rest"):
        np.testing.assert_allclose(file.raw[name], raw[name], atol=2e-6)


def test_the_plain_file_is_in_the_runs_coordinates_and_names_the_origin(tmp_path: Path) -> None:
    raw = discs()
    write_splats(tmp_path / "a.ply", raw, frame=SceneFrame((5.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    file = read_splats(tmp_path / "a.ply")
    assert np.array_equal(file.raw["means"], raw["means"]) and not file.notices
    assert file.frame == SceneFrame((5.0, 0.0, 0.0))
    assert frame_comments(SceneFrame(up=(0.0, 0.0, 1.0))) == []


def test_numbers_of_the_comments_are_exact() -> None:
    turn = upright_rotation(SceneFrame(up=(0.6, -0.64, 0.48)))
    comments = viewer_comments(SceneFrame((512345.678901234, -1 / 3, 0.0), (0.0, 0.0, 1.0)), turn)
    found = stated_rotation(comments, "a.ply")
    assert found is not None and np.array_equal(found, turn)
    assert stated_origin(comments, "a.ply") == (512345.678901234, -1 / 3, 0.0)
    assert stated_rotation([], "a.ply") is None and stated_origin(["x"], "a.ply") is None


@pytest.mark.parametrize(
    "comment",
    [
        "IQGS rotation: 1 0 0 0 1 0 0 0",
        "IQGS rotation: 1 0 0 0 1 0 0 0 -1",
        "IQGS rotation: 1 0 0 0 1 0 0 0 one",
        "IQGS rotation: 1 0 0 0 1 0 0 0 1e999",
        "IQGS rotation: 1 0 0 0 1 0 0 0 1_0",
        "IQGS rotation: 1 0 0 0 1 0 0 0 ..",
    ],
)
def test_a_damaged_comment_is_named(comment: str) -> None:
    with pytest.raises(FormatError, match=r"a.ply: the comment 'IQGS rotation:'"):
        stated_rotation([comment], "a.ply")


def test_splats_move_between_origins(tmp_path: Path) -> None:
    raw, here = discs(), SceneFrame((100.0, 0.0, -50.0))
    write_splats(tmp_path / "a.ply", raw, frame=SceneFrame((90.0, 0.0, -50.0)))
    moved = in_frame(read_splats(tmp_path / "a.ply"), here, "a.ply")
    np.testing.assert_allclose(moved.raw["means"], raw["means"] - [10, 0, 0], atol=1e-5)
    assert len(moved.notices) == 1 and moved.frame == here

    far = {**raw, "means": raw["means"] + np.float32([100, 0, -50])}
    write_splats(tmp_path / "scene.ply", far)  # no comment: another program's, of the same scene
    moved = in_frame(read_splats(tmp_path / "scene.ply"), here, "scene.ply")
    np.testing.assert_allclose(moved.raw["means"], raw["means"], atol=1e-5)

    write_splats(tmp_path / "local.ply", raw)  # no comment: an editor's, from this run's file
    moved = in_frame(read_splats(tmp_path / "local.ply"), here, "local.ply")
    assert np.array_equal(moved.raw["means"], raw["means"]) and not moved.notices
