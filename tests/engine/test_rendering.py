# SPDX-License-Identifier: Apache-2.0
"""Pictures of a small hand-made run: the right files, with the right numbers in them."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from arguments.rendering import RenderParams, parse_render_arguments
from iqgs.engine import rendering, rendering_files
from iqgs.engine.rendering_path import fit_ellipse, focus_point, look_at, path_cameras
from iqgs.types import Segmentation
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from scene.masks import IdTable, InstanceMasks
from scene.points import PointCloud
from utils.colors import id_color
from utils.errors import RunError, UserError

WIDTH, HEIGHT = 20, 14
ORIGINALS = (7, 300)  # of the mask files: one of them does not fit 8 bits


class LeftRight:
    """Splats with a positive first channel are instance 1, with a negative one instance 2."""

    def segment(
        self, instance_map: torch.Tensor, panoptic: bool = True, alpha: torch.Tensor | None = None
    ) -> Segmentation:
        first = instance_map[0]
        labels = torch.where(first > 0.2, 1, torch.where(first < -0.2, 2, 0))
        return Segmentation(labels, {1: 1.0, 2: 1.0})


def camera_at(azimuth: float, uid: int = 0, radius: float = 4.0) -> Camera:
    position = np.array([radius * math.cos(azimuth), radius * math.sin(azimuth), 1.5])
    pose = look_at(position, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    return Camera(pose, 20.0, 20.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT, f"a/view{uid}.jpg", uid)


def two_blobs() -> GaussianModel:
    """Two clusters of opaque splats beside each other."""
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randn(60, 3, generator=generator) * 0.15
    sides = torch.tensor([1.0, -1.0]).repeat_interleave(30)
    positions = offsets + torch.stack([0 * sides, 0.8 * sides, 0 * sides], dim=1)
    gaussians = GaussianModel.from_points(
        PointCloud(positions.numpy(), np.full((60, 3), 0.5, np.float32)), 1, 4, generator
    )
    with torch.no_grad():
        gaussians.params["opacity_logits"].fill_(4.0)
        gaussians.params["instance"].zero_()[:, 0] = sides
    return gaussians


def fake_view(camera: Camera, with_masks: bool) -> SimpleNamespace:
    label_map = np.zeros((HEIGHT, WIDTH), np.int32)
    label_map[:, :5] = 2
    masks = InstanceMasks.from_label_map(label_map) if with_masks else None
    image = torch.full((3, HEIGHT, WIDTH), 0.25)
    return SimpleNamespace(camera=camera, name=camera.name, image=image, masks=masks)


@pytest.fixture
def run(tmp_path: Path) -> SimpleNamespace:
    views = [fake_view(camera_at(0.7 * i, i), i != 1) for i in range(3)]
    return SimpleNamespace(
        config=SimpleNamespace(
            pipeline=SimpleNamespace(backend="reference"),
            segmentation=SimpleNamespace(matching="id"),
        ),
        scene=SimpleNamespace(train=tuple(views[:2]), test=tuple(views[2:])),
        gaussians=two_blobs(),
        method=LeftRight(),
        iteration=12,
        id_table=IdTable(ORIGINALS),
        background=torch.zeros(3),
        model_path=tmp_path,
    )


def params(run: SimpleNamespace, **changes: object) -> RenderParams:
    return replace(RenderParams(model_path=str(run.model_path), quiet=True), **changes)


def picture(*parts: object) -> np.ndarray:
    with Image.open(Path(*map(str, parts))) as image:
        return np.array(image)


def test_every_kind_of_picture_is_written_for_every_view(run: SimpleNamespace) -> None:
    written = rendering.render_run(run, params(run))
    train, test = run.model_path / "train" / "ours_12", run.model_path / "test" / "ours_12"
    assert written == [train, test]
    kinds = {
        "renders",
        "gt",
        "objects_id",
        "objects_pred",
        "objects_feature16",
        "depth_color",
        "normals",
        "concat",
    }
    for kind in kinds:
        names = {path.name for path in (train / kind).glob("*.png")}
        assert names == {"00000.png", "00001.png"}, kind
    assert [path.name for path in (train / "gt_objects_color").iterdir()] == ["00000.png"]
    assert picture(train, "gt", "00000.png")[0, 0].tolist() == [64, 64, 64]
    assert json.loads((test / "views.json").read_text()) == {"00000": "a/view2.jpg"}


def test_ids_are_those_of_the_mask_files_and_colors_follow_them(run: SimpleNamespace) -> None:
    rendering.render_run(run, params(run, masks=True))
    folder = run.model_path / "train" / "ours_12"
    ids = picture(folder, "objects_id", "00000.png")
    assert ids.dtype in (np.uint16, np.int32) and set(np.unique(ids)) == {0, *ORIGINALS}
    colors = picture(folder, "objects_pred", "00000.png")
    for number in (0, *ORIGINALS):
        assert (colors[ids == number] == id_color(np.array(number))).all()
    truth = picture(folder, "gt_objects_color", "00000.png")
    assert (truth[:, :5] == id_color(np.array(300))).all() and not truth[:, 5:].any()
    mask = picture(folder, "masks", "a", "view0", "300.png")
    assert ((mask == 255) == (ids == 300)).all() and set(np.unique(mask)) == {0, 255}


def test_queries_of_the_assignment_keep_their_own_numbers(run: SimpleNamespace) -> None:
    run.config.segmentation.matching = "hungarian"
    labels = torch.tensor([[0, 5], [9, 9]])
    assert rendering.original_ids(run, labels).tolist() == [[0, 5], [9, 9]]


def test_depth_is_metric_and_empty_where_nothing_is(run: SimpleNamespace) -> None:
    palette = rendering.fit_palette(run, [view.camera for view in run.scene.train])
    assert 2.5 < palette.depth[0] < palette.depth[1] < 6.0  # cameras stand 4.3 from the middle
    rendering.render_run(run, params(run, skip_train=True))
    depth = picture(run.model_path, "test", "ours_12", "depth", "00000.tiff")
    assert depth.dtype == np.float32 and depth.shape == (HEIGHT, WIDTH)
    assert (depth[0] == 0).all() and 2.5 < depth[depth > 0].mean() < 6.0
    assert not (run.model_path / "train").exists()


def test_a_run_without_instances_has_colour_only(run: SimpleNamespace) -> None:
    run.method, run.id_table = None, None
    rendering.render_run(run, params(run, skip_test=True))
    folder = run.model_path / "train" / "ours_12"
    assert not (folder / "objects_id").exists() and not (folder / "gt_objects_color").exists()
    assert picture(folder, "concat", "00000.png").shape == (HEIGHT, 4 * WIDTH, 3)


def test_videos_hold_a_frame_per_view_and_per_step_of_the_path(run: SimpleNamespace) -> None:
    paths = rendering.render_run(run, params(run, render_path=True, path_frames=6, fps=5))
    assert paths[-1] == run.model_path / "traj" / "ours_12" / "result.mp4"
    concat = run.model_path / "train" / "ours_12" / "concat" / "result.mp4"
    for path, frames in ((paths[-1], 6), (concat, 2)):
        video = cv2.VideoCapture(str(path))
        assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == frames
        good, frame = video.read()
        assert good and frame.shape[1] in (2 * WIDTH, 4 * WIDTH)
        assert frame.max() > 60  # something is to be seen


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(RunError, match=r"disk full: need .* MB, free .* MB"):
        rendering_files.write_picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_video_whose_frames_did_not_arrive_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2.VideoWriter, "write", lambda self, frame: None, raising=True)
    frames = [np.zeros((8, 8, 3), np.uint8)] * 3
    with pytest.raises(RunError, match="of 3 frames"):
        rendering_files.write_video(tmp_path / "v.mp4", frames, 5)
    assert not (tmp_path / "v.mp4").exists()


def test_ids_have_sixteen_bits_where_all_of_the_scene_fit() -> None:
    found = torch.tensor([[0, 1, 2]])
    for top, dtype in ((65535, np.uint16), (65536, np.int32)):
        run = SimpleNamespace(
            id_table=IdTable((7, top)),
            config=SimpleNamespace(segmentation=SimpleNamespace(matching="id")),
        )
        ids = rendering.original_ids(run, found)  # type: ignore[arg-type]
        assert ids.dtype == dtype and ids.tolist() == [[0, 7, top]]


def test_ids_beyond_sixteen_bits_are_written_with_thirty_two(tmp_path: Path) -> None:
    for ids, name in ((np.array([[0, 65535]], np.uint16), "a.png"), (np.array([[0, 70000]]), "b")):
        rendering_files.write_id_picture(tmp_path / f"{name[0]}.png", ids)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.tiff"]
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 65535]]
    assert np.asarray(Image.open(tmp_path / "b.tiff")).tolist() == [[0, 70000]]


def test_look_at_puts_the_target_in_the_middle_with_up_upwards() -> None:
    camera = camera_at(1.1)
    pixel, depth = camera.project(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]))
    assert np.allclose(pixel[0], [WIDTH / 2, HEIGHT / 2]) and depth[0] > 0
    assert pixel[1, 1] < pixel[0, 1]  # image rows run downwards
    rotation = camera.world_to_view[:3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(rotation) == pytest.approx(1.0)


def test_path_runs_round_the_focus_of_a_full_ring() -> None:
    cameras = [camera_at(2 * math.pi * i / 12, i) for i in range(12)]
    path = path_cameras(cameras, 40)
    centers = torch.stack([camera.center for camera in path]).numpy()
    assert np.allclose(np.hypot(centers[:, 0], centers[:, 1]), 4.0, rtol=0.1)
    assert np.allclose(centers[:, 2], 1.5, atol=1e-6)
    steps = np.linalg.norm(np.roll(centers, -1, axis=0) - centers, axis=1)
    assert steps.max() < 1.2 * steps.min()  # even, and closed
    assert path[0].width == WIDTH and path[0].fx == cameras[0].fx


def test_path_stays_in_front_of_cameras_that_stand_on_one_side() -> None:
    azimuths = np.linspace(0.2, 1.4, 9)
    ellipse = fit_ellipse([camera_at(float(a), i) for i, a in enumerate(azimuths)])
    assert ellipse.sweep < math.pi * 4 / 3
    positions = np.stack([ellipse.position(float(a)) for a in ellipse.azimuths(30)])
    flown = np.arctan2(positions[:, 1], positions[:, 0])
    assert flown.min() > -0.1 and flown.max() < 1.7


@pytest.mark.parametrize("count", [1, 2])
def test_path_of_very_few_or_parallel_cameras_is_finite(count: int) -> None:
    cameras = [replace(camera_at(0.0), uid=i) for i in range(count)]
    for camera in path_cameras(cameras, 5):
        assert torch.isfinite(camera.world_to_view).all()
    forwards = np.tile([1.0, 0.0, 0.0], (3, 1))
    assert np.isfinite(focus_point(np.eye(3), forwards)).all()


def test_command_line() -> None:
    params, overrides = parse_render_arguments(
        ["-m", "r", "-s", "scene", "--skip_test", "--masks", "--num_classes", "256"]
    )
    assert params.splits == ("train",) and params.masks and params.iteration == -1
    assert overrides == {"source_path": "scene"} and params.device == "auto"
    with pytest.raises(UserError, match="model_path"):
        parse_render_arguments([])
    with pytest.raises(UserError, match="fps"):
        parse_render_arguments(["-m", "r", "--fps", "0"])
