# SPDX-License-Identifier: Apache-2.0
"""From photographs to a scene: what goes where, what is refused, what is not done twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from arguments import ModelParams
from arguments.conversion import ConversionParams, parse_conversion_arguments
from iqgs.preparation.poses import convert, find_job, shared_calibration
from iqgs.preparation.watching import rows, watch
from scene.dataset import load_scene
from scene.readers.colmap import ColmapCamera, write_colmap_model
from tests.scene.balls import SIZE, colmap_image, ring_poses, some_points
from utils.errors import DataError, RunError, UserError

FAKE = Path(__file__).with_name("fake_colmap.py")


def photographs(folder: Path, count: int = 5) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", SIZE, (index, 0, 0)).save(folder / f"{index:03d}.png")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for colmap, which finds two models: of 2 and of 4 photographs."""
    program = tmp_path / "colmap"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    program.chmod(0o755)
    camera = ColmapCamera(1, "SIMPLE_RADIAL", *SIZE, (80.0, 48.0, 36.0, -0.1))
    images = [colmap_image(i + 1, f"{i:03d}.png", p) for i, p in enumerate(ring_poses(4))]
    for number, count in (("0", 2), ("1", 4)):
        write_colmap_model(tmp_path / "models" / number, [camera], images[:count], some_points())
    monkeypatch.setenv("FAKE_MODEL", str(tmp_path / "models"))
    monkeypatch.delenv("FAKE_STOP", raising=False)
    return program


def params(folder: Path, fake: Path, **changes: Any) -> ConversionParams:
    settings = {"colmap_executable": str(fake), "quiet": True, **changes}
    return ConversionParams(str(folder), **settings)


@pytest.mark.parametrize("place", ["input", "."])
def test_straight_copies_and_the_largest_model(tmp_path: Path, fake: Path, place: str) -> None:
    folder = tmp_path / "scene"
    photographs(folder / place)
    assert convert(params(folder, fake)) == folder
    assert sorted(path.name for path in (folder / "images").iterdir()) == [
        f"{i:03d}.png" for i in range(5)
    ]
    assert not any(path.is_symlink() for path in (folder / "images").iterdir())
    scene = load_scene(ModelParams(str(folder), no_masks=True), seed=0)
    assert len(scene.train) == 4
    assert (folder / place / "000.png").is_file()


def test_photographs_in_images_stay_as_they_are(tmp_path: Path, fake: Path) -> None:
    folder = tmp_path / "scene"
    photographs(folder / "images")
    before = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    convert(params(folder, fake))
    assert before == {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    scene = load_scene(ModelParams(str(folder), no_masks=True), seed=0)
    assert any("SIMPLE_RADIAL" in notice for notice in scene.notices)
    log = (folder / "sfm/colmap.log").read_text()
    assert "image_undistorter" not in log and "--ImageReader.single_camera 1" in log


def test_options_go_to_the_program_under_the_names_that_it_has(tmp_path: Path, fake: Path) -> None:
    folder = tmp_path / "scene"
    photographs(folder / "input")
    options = {"no_gpu": True, "threads": 3, "pairing": "sequential", "cameras": "per_folder"}
    convert(params(folder, fake, camera_model="RADIAL", **options))
    log = (folder / "sfm/colmap.log").read_text()
    assert "--ImageReader.camera_model RADIAL" in log
    assert "--ImageReader.single_camera_per_folder 1" in log
    assert "--FeatureExtraction.use_gpu 0" in log and "SiftExtraction" not in log
    assert "sequential_matcher" in log and "--SiftMatching.num_threads 3" in log


def test_a_stopped_conversion_goes_on(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scene"
    photographs(folder / "input")
    monkeypatch.setenv("FAKE_STOP", "exhaustive_matcher")
    with pytest.raises(RunError, match=r"exit code 6: .*Check failed.*--no_gpu.*colmap\.log"):
        convert(params(folder, fake))
    assert not (folder / "images").exists() and not (folder / "sparse").exists()
    monkeypatch.delenv("FAKE_STOP")
    convert(params(folder, fake))
    log = (folder / "sfm/colmap.log").read_text()
    assert log.count("feature_extractor") == 1 and log.count("exhaustive_matcher") == 2


def test_other_settings_start_anew(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scene"
    photographs(folder / "input")
    monkeypatch.setenv("FAKE_STOP", "mapper")
    for changes in ({}, {"camera_model": "RADIAL"}):
        with pytest.raises(RunError):
            convert(params(folder, fake, **changes))
        log = (folder / "sfm/colmap.log").read_text()
        assert log.count("feature_extractor") == 1
    assert "RADIAL" in log


def test_nothing_is_written_over(tmp_path: Path, fake: Path) -> None:
    folder = tmp_path / "scene"
    photographs(folder)  # loose photographs: images/ will be copies
    convert(params(folder, fake))
    with pytest.raises(UserError, match=r"sparse/ and images/ already there.*--overwrite"):
        convert(params(folder, fake))
    convert(params(folder, fake, overwrite=True))
    record = json.loads((folder / "sfm/progress.json").read_text())
    assert record["settings"]["folder"] == "."  # not the copies of the first time
    assert record["done"] == ["features", "matches", "mapping"]


def test_photographs_that_do_not_fit_together(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scene"
    photographs(folder / "input")
    monkeypatch.delenv("FAKE_MODEL")
    with pytest.raises(RunError, match="no two photographs fit together"):
        convert(params(folder, fake))


def test_smaller_copies(tmp_path: Path, fake: Path) -> None:
    folder = tmp_path / "scene"
    photographs(folder / "input")
    convert(params(folder, fake, resize=True))
    sizes = {n: Image.open(folder / f"images_{n}/003.png").size for n in (2, 4, 8)}
    assert sizes == {2: (48, 36), 4: (24, 18), 8: (12, 9)}
    scene = load_scene(ModelParams(str(folder), images="images_2", no_masks=True), seed=0)
    assert scene.train[0].camera.width < 60


def test_folders_without_photographs(tmp_path: Path, fake: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_job(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photographs in input/"):
        find_job(tmp_path / "empty")
    (tmp_path / "empty/a.mov").touch()
    with pytest.raises(DataError, match=r"its 1 \.mov files must be converted"):
        find_job(tmp_path / "empty")
    photographs(tmp_path / "one/input", 1)
    with pytest.raises(DataError, match="at least two"):
        convert(params(tmp_path / "one", fake))
    photographs(tmp_path / "bad/input")
    (tmp_path / "bad/input/002.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"002\.png: the file is empty"):
        convert(params(tmp_path / "bad", fake))
    assert not (tmp_path / "bad/sfm").exists()


def test_one_calibration_for_photographs_of_one_lens(tmp_path: Path) -> None:
    photographs(tmp_path / "input", 3)
    assert shared_calibration(find_job(tmp_path)) == "single"
    Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "input/001.png")
    assert shared_calibration(find_job(tmp_path)) == "auto"
    (tmp_path / "input/001.png").unlink()
    for index, focal in enumerate((4.2, 7.0)):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = focal
        Image.new("RGB", SIZE).save(tmp_path / f"input/{index}.jpg", exif=exif)
    (tmp_path / "input/000.png").unlink()
    (tmp_path / "input/002.png").unlink()
    assert shared_calibration(find_job(tmp_path)) == "auto"


def test_who_solves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path / "input")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no colmap on the PATH"):
        convert(ConversionParams(str(tmp_path), solver="colmap"))
    with pytest.raises(UserError, match="no such program"):
        convert(ConversionParams(str(tmp_path), colmap_executable="/nowhere/colmap"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pycolmap"):
        convert(ConversionParams(str(tmp_path)))
    with pytest.raises(UserError, match="--solver pycolmap"):
        convert(ConversionParams(str(tmp_path), solver="pycolmap"))


def test_failures_of_a_step_come_back_and_ctrl_c_stops_it(tmp_path: Path) -> None:
    def broken() -> None:
        raise RunError("broken")

    with pytest.raises(RunError, match="broken"):
        watch("step", broken, lambda: None, lambda: 0, 1, quiet=True)
    stopped: list[bool] = []

    def interrupted() -> int:
        raise KeyboardInterrupt

    def waits() -> None:
        while not stopped:
            pass

    with pytest.raises(KeyboardInterrupt):
        watch("step", waits, lambda: stopped.append(True), interrupted, 1, quiet=True)
    assert rows(tmp_path / "nothing.db", "keypoints") == 0


def test_the_command_line() -> None:
    given = parse_conversion_arguments(["-s", "a", "--camera", "RADIAL", "--resize"])
    assert (given.source_path, given.camera_model, given.resize) == ("a", "RADIAL", True)
    for wrong in (["-s", "a", "--camera_model", "LENS"], [], ["-s", "a", "--threads", "-1"]):
        with pytest.raises(UserError):
            parse_conversion_arguments(wrong)


def test_poses_of_ray_cast_photographs(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="pip install pycolmap runs this test")
    from scene.readers.colmap import find_colmap_folder, read_colmap_model
    from scene.synthetic.render import Viewpoint
    from scene.synthetic.room import build_room
    from scene.synthetic.writer import UP, render_views
    from utils.geometry import look_at
    from utils.images import write_pixels

    views = []
    for index in range(8):
        angle = 0.12 * index
        eye = np.array([2.0 * np.cos(angle), 2.0 * np.sin(angle), 1.5 + 0.05 * (index % 3)])
        pose = look_at(eye, np.array([0.0, 0.0, 0.7]), UP)
        views.append(Viewpoint(f"{index}.png", pose, 300.0, 320, 240))
    for view, picture in zip(views, render_views(build_room(0, 12), views, 1, 1), strict=True):
        (tmp_path / "input").mkdir(exist_ok=True)
        write_pixels(tmp_path / "input" / view.name, (picture.color * 255).astype(np.uint8))
    settings = ConversionParams(str(tmp_path), camera_model="SIMPLE_PINHOLE", quiet=True, threads=1)
    convert(settings)
    folder = find_colmap_folder(tmp_path, "", [])
    assert folder is not None
    model = read_colmap_model(folder)
    assert len(model.images) == 8
    assert model.cameras[model.images[0].camera_id].fx == pytest.approx(300, rel=0.05)
    found, expected = [], []
    for image in model.images:
        pose = image.world_to_view()
        found.append(-pose[:3, :3].T @ pose[:3, 3])
        truth = views[int(image.name[0])].world_to_view
        expected.append(-truth[:3, :3].T @ truth[:3, 3])
    # The same cameras up to a similarity: distances have one ratio.
    ours, true = (np.linalg.norm(np.diff(c, axis=0), axis=1) for c in (found, expected))
    assert np.ptp(ours / true) < 0.05 * np.mean(ours / true)
