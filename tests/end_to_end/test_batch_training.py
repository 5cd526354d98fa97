# SPDX-License-Identifier: Apache-2.0
"""The batch scripts really train: tiny scenes laid out like LERF-Mask and 360_v2, a few steps."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from utils.errors import UserError
from utils.geometry import look_at
from utils.ply import read_ply

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT, FOCAL, VIEWS = 36, 28, 34.0, 10
BALLS = np.array([[0.5, 0.0, 0.0], [-0.5, 0.1, 0.0]])  # instances 1 and 2
COLORS = np.array([[200, 60, 40], [40, 90, 210]], np.uint8)
RADIUS = 0.35
SHORT = (
    "--iterations",
    "12",
    "--instance_iterations",
    "8",
    "--quiet",
    "--device",
    "cpu",
    "--background_seeds",
    "0",
    "--splat_cap",
    "120",
    "--sh_degree",
    "0",
)


def draw(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture [H, W, 3] and ids [H, W] of the two balls."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    centers = BALLS @ pose[:3, :3].T + pose[:3, 3]
    for i in np.argsort(-centers[:, 2]):
        x, y = (FOCAL * centers[i, :2] / centers[i, 2]) + (WIDTH / 2, HEIGHT / 2)
        inside = np.hypot(columns - x, rows - y) < FOCAL * RADIUS / centers[i, 2]
        picture[inside], ids[inside] = COLORS[i], i + 1
    return picture, ids


def write_scene(folder: Path, images: str, *, train_folder: bool) -> None:
    """A COLMAP scene in text form, with pictures in `images` and masks."""
    (folder / "sparse" / "0").mkdir(parents=True)
    for name in (images, "object_mask", *(["images_train"] if train_folder else [])):
        (folder / name).mkdir()
    lines = []
    for i in range(VIEWS):
        angle = 2 * math.pi * i / VIEWS
        position = np.array([2.6 * math.cos(angle), 2.6 * math.sin(angle), 0.8])
        pose = look_at(position, np.zeros(3), np.array([0.0, 0.0, 1.0]))
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        values = " ".join(f"{v:.9f}" for v in (w, x, y, z, *pose[:3, 3]))
        lines.append(f"{i + 1} {values} 1 view{i:02d}.png\n\n")
        picture, ids = draw(pose)
        Image.fromarray(picture).save(folder / images / f"view{i:02d}.png")
        Image.fromarray(ids).save(folder / "object_mask" / f"view{i:02d}.png")
        if train_folder and i % 4:
            Image.fromarray(picture).save(folder / "images_train" / f"view{i:02d}.png")
    model = folder / "sparse" / "0"
    scale = 2 if images == "images_2" else 1  # COLMAP saw the full size
    (model / "cameras.txt").write_text(
        f"1 PINHOLE {WIDTH * scale} {HEIGHT * scale} {FOCAL * scale} {FOCAL * scale} "
        f"{WIDTH * scale / 2} {HEIGHT * scale / 2}\n"
    )
    (model / "images.txt").write_text("".join(lines))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 3))
    points = BALLS[np.arange(80) % 2] + RADIUS * rows / np.linalg.norm(rows, axis=1, keepdims=True)
    (model / "points3D.txt").write_text(
        "".join(
            f"{i + 1} {p[0]:.5f} {p[1]:.5f} {p[2]:.5f} {c[0]} {c[1]} {c[2]} 0.5\n"
            for i, (p, c) in enumerate(zip(points, COLORS[np.arange(80) % 2], strict=True))
        )
    )


def batch(script: str, data: Path, out: Path, scenes: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "IQGS_PYTHON": sys.executable,
        "SCENES": scenes,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / script), str(data), str(out), *SHORT],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


@pytest.mark.fault(row=43)
def test_lerf_layout_trains_and_a_broken_scene_does_not_stop_it(tmp_path: Path) -> None:
    write_scene(tmp_path / "data" / "ramen", "images", train_folder=True)
    write_scene(tmp_path / "data" / "figurines", "images", train_folder=True)
    (tmp_path / "data" / "figurines" / "sparse" / "0" / "cameras.txt").write_text("1 PINHOLE 36\n")
    done = batch("train_lerf.sh", tmp_path / "data", tmp_path / "out", "figurines ramen")
    assert done.returncode == 1
    assert "figurines: FAILED with exit code 2" in done.stderr
    assert "cameras.txt" in done.stderr, "the summary names the file at fault"
    log = (tmp_path / "out" / "logs" / "ramen.log").read_text()
    assert (tmp_path / "out" / "ramen" / "results.json").is_file(), log[-3000:]
    results = json.loads((tmp_path / "out" / "ramen" / "results.json").read_text())
    scores = next(value for key, value in results.items() if key.startswith("ours_"))["train"]
    assert scores["views"] == 7  # images_train has three quarters of ten
    assert not (tmp_path / "out" / "figurines" / "results.json").exists()


def assert_objects_can_be_cut_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("cut", ROOT / "scripts" / "extract_object.py")
    assert spec is not None and spec.loader is not None
    door = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(door)
    monkeypatch.setattr(sys, "argv", ["extract_object.py", "-m", str(run), "--id", "77"])
    with pytest.raises(UserError, match="--id 77.*there are 1, 2") as refused:
        door.main()
    assert "no splat belongs to it" in str(refused.value)
    monkeypatch.setattr(sys, "argv", ["extract_object.py", "-m", str(run), "--id", "1"])
    assert door.main() == 0
    columns = read_ply(run / "objects" / "1.ply")
    assert set(columns["instance"].tolist()) == {1} and "scale_2" in columns
    assert f"({len(columns['x'])} splats)" in capsys.readouterr().out


def test_360_layout_trains_at_half_size_and_is_not_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "data" / "room", "images_2", train_folder=False)
    done = batch("train_360_v2.sh", tmp_path / "data", tmp_path / "out", "room")
    run = tmp_path / "out" / "room"
    assert done.returncode == 0, (tmp_path / "out" / "logs" / "room.log").read_text()[-3000:]
    rendered = sorted((run / "test").glob("ours_*/renders/*.png"))
    assert len(rendered) == 2  # views 0 and 8
    with Image.open(rendered[0]) as image:
        assert image.size == (WIDTH, HEIGHT)
    assert_objects_can_be_cut_out(run, monkeypatch, capsys)
    before = (run / "results.json").stat().st_mtime_ns
    again = batch("train_360_v2.sh", tmp_path / "data", tmp_path / "out", "room")
    assert again.returncode == 0 and "finished before" in again.stdout
    assert (run / "results.json").stat().st_mtime_ns == before
