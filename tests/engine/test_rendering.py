# SPDX-License-Identifier: Apache-2.0
"""Pictures of a small hand-made run: the right files, with the right numbers in them."""

from __future__ import annotations

import errno
import logging
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pytest import LogCaptureFixture

from arguments.rendering import RenderParams, parse_render_arguments
from gaussian_renderer import Lens
from iqgs.engine.pictures import files
from iqgs.engine.pictures import views as pictures
from iqgs.engine.run import Run
from iqgs.engine.run_folder import RunCameras
from iqgs.engine.settings import resolve_run
from iqgs.methods.protocol import Segmentation
from scene.camera_path import fit_ellipse, focus_point, path_cameras
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from scene.masks import IdTable, InstanceMasks
from scene.points import PointCloud
from utils.colors import id_color
from utils.errors import RunError, UserError
from utils.geometry import look_at

WIDTH, HEIGHT = 20, 14
ORIGINALS = (7, 300)  # of the mask files: one of them does not fit 8 bits


class LeftRight:
    """Splats with a positive first channel are instance 1, with a negative one instance 2."""

    ids = "global"

    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        first = lens.features[0]
        labels = torch.where(first > 0.2, 1, torch.where(first < -0.2, 2, 0))
        return Segmentation(labels, {1: 1.0, 2: 1.0}, self.ids)


def camera_at(azimuth: float, uid: int = 0, radius: float = 4.0) -> Camera:
    position = np.array([radius * math.cos(azimuth), radius * math.sin(azimuth), 1.5])
    pose = torch.from_numpy(look_at(position, np.zeros(3), np.array([0.0, 0.0, 1.0])))
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
    seen = {"camera": camera, "name": camera.name, "image": image, "masks": masks}
    return SimpleNamespace(**seen, forget=lambda: None)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    views = [fake_view(camera_at(0.7 * i, i), i != 1) for i in range(3)]
    split = {"train": tuple(views[:2]), "test": tuple(views[2:])}
    scene = SimpleNamespace(**split, id_table=IdTable(ORIGINALS))
    return Run(
        config=resolve_run({"backend": "reference", "source_path": str(tmp_path / "gone")}),
        folder=tmp_path,
        cameras=RunCameras.of_scene(scene),
        gaussians=two_blobs(),
        ids=IdTable(ORIGINALS),
        method=LeftRight(),
        iteration=12,
        loaded_scene=scene,
    )


def params(run: Run, **changes: object) -> RenderParams:
    return replace(RenderParams(model_path=str(run.folder), quiet=True), **changes)


def picture(*parts: object) -> np.ndarray:
    with Image.open(Path(*map(str, parts))) as image:
        return np.array(image)


def test_every_kind_of_picture_is_written_for_every_view(run: Run) -> None:
    written = pictures.render_run(run, params(run))
    train, test = run.folder / "train" / "ours_12", run.folder / "test" / "ours_12"
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
        names = {path.name for path in (train / kind / "a").glob("*.png")}
        assert names == {"view0.png", "view1.png"}, kind
    assert [path.name for path in (train / "gt_objects_color" / "a").iterdir()] == ["view0.png"]
    assert picture(train, "gt", "a", "view0.png")[0, 0].tolist() == [64, 64, 64]
    assert (test / "renders" / "a" / "view2.png").is_file()


def test_ids_are_those_of_the_mask_files_and_colors_follow_them(run: Run) -> None:
    pictures.render_run(run, params(run, masks=True))
    folder = run.folder / "train" / "ours_12"
    ids = picture(folder, "objects_id", "a", "view0.png")
    assert ids.dtype in (np.uint16, np.int32) and set(np.unique(ids)) == {0, *ORIGINALS}
    colors = picture(folder, "objects_pred", "a", "view0.png")
    for number in (0, *ORIGINALS):
        assert (colors[ids == number] == id_color(np.array(number))).all()
    truth = picture(folder, "gt_objects_color", "a", "view0.png")
    assert (truth[:, :5] == id_color(np.array(300))).all() and not truth[:, 5:].any()
    mask = picture(folder, "masks", "a", "view0", "300.png")
    assert ((mask == 255) == (ids == 300)).all() and set(np.unique(mask)) == {0, 255}


def test_numbers_of_queries_are_not_those_of_the_files(run: Run) -> None:
    labels = torch.tensor([[0, 1], [2, 2]])
    assert run.file_ids(labels, "global").tolist() == [[0, 7], [300, 300]]
    assert run.file_ids(labels + 7, "queries").tolist() == [[7, 8], [9, 9]]


def test_without_its_scene_a_run_still_has_pictures(run: Run, caplog: LogCaptureFixture) -> None:
    run.loaded_scene = None
    with caplog.at_level(logging.WARNING):
        pictures.render_run(run, params(run, skip_train=True))
    assert "gone: no such folder" in caplog.text and "-s" in caplog.text
    folder = run.folder / "test" / "ours_12"
    assert (folder / "objects_id" / "a" / "view2.png").is_file()
    assert not (folder / "gt").exists()
    panel = picture(folder, "concat", "a", "view2.png")
    assert not panel[:HEIGHT, :WIDTH].any() and panel[:HEIGHT, WIDTH : 2 * WIDTH].any()


def test_files_are_called_as_the_photographs() -> None:
    names = ["a/1.jpg", "b/1.jpg", "2.png", "2.jpg"]
    assert pictures.file_names(names) == {
        "a/1.jpg": "a/1", "b/1.jpg": "b/1", "2.png": "2.png", "2.jpg": "2.jpg",
    }  # fmt: skip


def test_views_of_several_sizes_make_one_film(run: Run) -> None:
    first = run.cameras.train[0]
    wide = replace(first, width=WIDTH + 6, height=HEIGHT - 3, name="a/wide.jpg")
    run.cameras = RunCameras((first, wide), ())
    run.loaded_scene = None
    pictures.render_run(run, params(run))
    film = cv2.VideoCapture(str(run.folder / "train" / "ours_12" / "concat" / "result.mp4"))
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 2


def test_a_film_that_cannot_be_made_stops_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: LogCaptureFixture
) -> None:
    monkeypatch.setattr(cv2.VideoWriter, "write", lambda self, frame: None, raising=True)
    with caplog.at_level(logging.WARNING):
        pictures.render_run(run, params(run))
    assert "frames could be encoded" in caplog.text
    assert (run.folder / "test" / "ours_12" / "renders" / "a" / "view2.png").is_file()


def test_depth_is_metric_and_empty_where_nothing_is(run: Run) -> None:
    palette = pictures.fit_palette(run, run.cameras.train)
    assert 2.5 < palette.depth[0] < palette.depth[1] < 6.0  # cameras stand 4.3 from the middle
    pictures.render_run(run, params(run, skip_train=True))
    depth = picture(run.folder, "test", "ours_12", "depth", "a", "view2.tiff")
    assert depth.dtype == np.float32 and depth.shape == (HEIGHT, WIDTH)
    assert (depth[0] == 0).all() and 2.5 < depth[depth > 0].mean() < 6.0
    assert not (run.folder / "train").exists()


def test_a_run_without_instances_has_colour_only(run: Run) -> None:
    run.method, run.ids, run.scene.id_table = None, None, None
    pictures.render_run(run, params(run, skip_test=True))
    folder = run.folder / "train" / "ours_12"
    assert not (folder / "objects_id").exists() and not (folder / "gt_objects_color").exists()
    assert picture(folder, "concat", "a", "view0.png").shape == (HEIGHT, 4 * WIDTH, 3)


def test_videos_hold_a_frame_per_view_and_per_step_of_the_path(run: Run) -> None:
    paths = pictures.render_run(run, params(run, render_path=True, path_frames=6, fps=5))
    assert paths[-1] == run.folder / "traj" / "ours_12" / "result.mp4"
    concat = run.folder / "train" / "ours_12" / "concat" / "result.mp4"
    for path, frames in ((paths[-1], 6), (concat, 2)):
        video = cv2.VideoCapture(str(path))
        assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == frames
        good, frame = video.read()
        assert good and frame.shape[1] in (2 * WIDTH, 4 * WIDTH)
        assert frame.max() > 60  # something is to be seen


@pytest.mark.fault(row=8)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(RunError, match=r"disk full: need .* MB, free .* MB"):
        files.write_picture(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    assert not list(tmp_path.iterdir())


def test_ids_have_sixteen_bits_where_all_of_the_run_fit(run: Run) -> None:
    found = torch.tensor([[0, 1, 2]])
    for top, dtype in ((65535, np.uint16), (65536, np.int32)):
        run.ids = IdTable((7, top))
        ids = pictures.picture_ids(run, run.file_ids(found, "global"))
        assert ids.dtype == dtype and ids.tolist() == [[0, 7, top]]


def test_ids_beyond_sixteen_bits_are_written_with_thirty_two(tmp_path: Path) -> None:
    for ids, name in ((np.array([[0, 65535]], np.uint16), "a.png"), (np.array([[0, 70000]]), "b")):
        files.write_id_picture(tmp_path / f"{name[0]}.png", ids)
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
