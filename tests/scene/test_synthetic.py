# SPDX-License-Identifier: Apache-2.0
"""The synthetic scene as files: the ordinary layout, true to itself, and repeatable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from arguments import ModelParams
from arguments.synthetic import SHUFFLED, MaskFaults, SyntheticParams, parse_synthetic_arguments
from scene.dataset import Scene, load_scene
from scene.synthetic.writer import POINT_NOISE, degrade_folder, make_scene
from utils.errors import DataError, UserError
from utils.images import write_id_map

ROOT = Path(__file__).resolve().parents[2]


def params(folder: Path, **changes: object) -> SyntheticParams:
    settings: dict[str, object] = {
        "width": 80,
        "height": 60,
        "views": 10,
        "points": 3000,
        "samples": 2,
        "degraded": True,
        "shuffled": True,
        "geometry": True,
        "workers": 1,
    }
    return SyntheticParams(str(folder), **(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(params(tmp_path_factory.mktemp("synthetic") / "scene"))


@pytest.fixture(scope="module")
def scene(folder: Path) -> Scene:
    return load_scene(ModelParams(str(folder), eval=True), seed=0)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_it_loads_as_any_scene_does(scene: Scene, folder: Path) -> None:
    split = json.loads((folder / "split.json").read_text())
    assert [v.name for v in scene.train] == split["train"]
    assert [v.name for v in scene.test] == split["test"] == ["view_002.png", "view_007.png"]
    assert scene.kind == "colmap" and not scene.notices
    assert scene.points.positions.shape == (3000, 3)
    assert 2.0 < scene.extent < 3.5
    view = scene.train[0]
    assert view.image.shape == (3, 60, 80) and view.camera.fy == pytest.approx(54.0)
    assert view.masks is not None and view.masks.label_map.min() > 0  # no pixel without an instance
    assert scene.id_table is not None
    names = {scene.id_table.name(k) for k in range(1, len(scene.id_table) + 1)}
    assert {"floor", "table", "ring", "arch"} <= names
    about = json.loads((folder / "scene.json").read_text())
    assert about["ground_truth"] == "synthetic" and about["seed"] == 0


def test_labelled_points_land_on_their_masks(scene: Scene, folder: Path) -> None:
    """Camera files, masks, depth and 3D labels say the same: nothing is off by half a pixel."""
    with np.load(folder / "points3d_labels.npz") as data:
        positions, labels, normals = data["positions"], data["labels"], data["normals"]
    assert len(positions) > 5000 and np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    assert np.unique(labels).size > 20
    for view in scene.train[:4]:
        pixels, depth = view.camera.project(torch.from_numpy(positions))
        with np.load(folder / "depth" / f"{Path(view.name).stem}.npz") as data:
            truth = data["depth"]
        ids = np.asarray(Image.open(folder / "object_mask" / view.name))
        # A point is one of the view's own pixel centres if it projects onto one at its depth.
        column, row = np.floor(pixels.numpy().T).astype(int)
        off = np.abs(pixels.numpy().T - 0.5 - [column, row]).max(axis=0)
        own = (off < 1e-3) & (column >= 0) & (column < 80) & (row >= 0) & (row < 60)
        own &= depth.numpy() > 0
        own[own] &= np.abs(truth[row[own], column[own]] - depth.numpy()[own]) < 1e-3
        assert own.sum() > 300
        assert (ids[row[own], column[own]] == labels[own]).all()


def test_normals_are_those_of_the_depth(folder: Path, scene: Scene) -> None:
    view = scene.train[2]
    stem = Path(view.name).stem
    with np.load(folder / "depth" / f"{stem}.npz") as depths:
        depth = depths["depth"].astype(np.float64)
    with np.load(folder / "normal" / f"{stem}.npz") as normals:
        normal = normals["normal"]
    rows, columns = np.mgrid[:60, :80] + 0.5
    camera = view.camera
    points = np.stack(
        [(columns - camera.cx) / camera.fx * depth, (rows - camera.cy) / camera.fy * depth, depth],
        axis=-1,
    )
    across = np.cross(points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1])
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    cosine = -(across * normal[1:-1, 1:-1]).sum(axis=-1)
    ids = np.asarray(Image.open(folder / "object_mask" / view.name))
    floor = ids == 1
    flat = (
        floor[1:-1, 1:-1] & floor[:-2, 1:-1] & floor[2:, 1:-1] & floor[1:-1, 2:] & floor[1:-1, :-2]
    )
    assert flat.sum() > 100 and cosine[flat].min() > 0.999
    assert np.median(np.abs(cosine)) > 0.99


def test_sparse_points_are_noisy_surface_points(scene: Scene, folder: Path) -> None:
    """The spread along the floor's normal is the noise that was asked for."""
    with np.load(folder / "points3d_labels.npz") as data:
        exact, labels = data["positions"], data["labels"]
    distance, nearest = cKDTree(exact).query(scene.points.positions)
    assert np.median(distance) < 0.03
    floor = labels[nearest] == 1
    height = np.asarray(scene.points.positions)[floor, 2]
    height = height[np.abs(height) < 0.03]
    assert height.size > 100 and height.std() == pytest.approx(POINT_NOISE, rel=0.25)
    assert np.asarray(scene.points.colors).std() > 0.05


def test_same_numbers_same_bytes_whatever_the_workers(folder: Path, tmp_path: Path) -> None:
    again = make_scene(params(tmp_path / "again", workers=2))
    assert digests(again) == digests(folder)


def test_another_seed_is_another_scene(folder: Path, tmp_path: Path) -> None:
    other = make_scene(params(tmp_path / "other", seed=1, views=5, geometry=False))
    assert digests(other)["images/view_000.png"] != digests(folder)["images/view_000.png"]
    assert not (other / "depth").exists()


def test_degraded_folders_differ_from_the_truth_as_recorded(folder: Path) -> None:
    record = json.loads((folder / "object_mask_degraded.json").read_text())
    assert record["knobs"]["missing"] == 0.1 and record["counts"]["missing"] > 0
    same = [
        (
            np.asarray(Image.open(folder / "object_mask" / f"view_{k:03d}.png"))
            == np.asarray(Image.open(folder / "object_mask_degraded" / f"view_{k:03d}.png"))
        ).mean()
        for k in range(10)
    ]
    assert 0.5 < np.mean(same) < 0.9  # 0.75 where the method was measured
    shuffled = load_scene(
        ModelParams(str(folder), object_path="object_mask_shuffled", eval=True), seed=0
    )
    assert shuffled.id_table is not None and len(shuffled.id_table) <= 30


def test_only_own_folders_are_written_over(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    make_scene(params(copy, views=5, degraded=False, shuffled=False, geometry=False))
    assert len(list((copy / "images").iterdir())) == 5
    assert not (copy / "object_mask_degraded").exists() and not (copy / "depth").exists()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        make_scene(params(foreign))
    assert [p.name for p in foreign.iterdir()] == ["notes.txt"]
    make_scene(params(foreign, views=5, degraded=False, shuffled=False, overwrite=True))
    assert (foreign / "notes.txt").read_text() == "mine" and (foreign / "scene.json").is_file()


def test_degrading_any_folder(tmp_path: Path) -> None:
    ids = np.arange(400, dtype=np.int32).reshape(20, 20) // 40
    for name in ("a/one.png", "b/one.png"):
        write_id_map(tmp_path / "masks" / name, ids)
    degrade_folder(tmp_path, "masks", "worse", SHUFFLED, 0)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")) == [
        "masks/a/one.png",
        "masks/b/one.png",
        "worse/a/one.png",
        "worse/b/one.png",
    ]
    degrade_folder(tmp_path, "masks", "worse", MaskFaults(), 1)  # its own folder again
    with pytest.raises(UserError, match="source"):
        degrade_folder(tmp_path, "masks", "masks", MaskFaults(), 0, overwrite=True)
    with pytest.raises(DataError, match="no masks"):
        degrade_folder(tmp_path, "nothing", "worse", MaskFaults(), 0)
    (tmp_path / "worse.json").unlink()
    with pytest.raises(UserError, match="--overwrite"):
        degrade_folder(tmp_path, "masks", "worse", MaskFaults(), 0)


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        text=True,
        capture_output=True,
        timeout=300,
        cwd="/",
        env={**os.environ, "PYTHONPATH": ""},
    )


def test_the_doors(tmp_path: Path) -> None:
    out = tmp_path / "scene"
    made = run_script(
        "make_synthetic_scene.py",
        str(out),
        "--views",
        "5",
        "--width",
        "32",
        "--height",
        "24",
        "--samples",
        "1",
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == str(out) and (out / "sparse" / "0" / "points3D.bin").is_file()
    worse = run_script("degrade_masks.py", str(out), "-t", "worse", "--missing", "1", "--seed", "3")
    assert worse.returncode == 0, worse.stderr
    assert not np.asarray(Image.open(out / "worse" / "view_000.png")).any()
    for arguments in (["x", "--objects", "3"], ["x", "--views", "1"], ["x", "--colour", "red"]):
        with pytest.raises(UserError):
            parse_synthetic_arguments(arguments)
    wrong = run_script("degrade_masks.py", str(tmp_path / "none"))
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ")
