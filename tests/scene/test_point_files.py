# SPDX-License-Identifier: Apache-2.0
"""Starting points that come from scanners, editors and networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scene.readers.points as module
from arguments import ModelParams
from scene.dataset import Scene, load_scene
from scene.gaussian_model import GaussianModel
from scene.points import PointCloud
from scene.readers.colmap import ColmapPoints
from scene.readers.colmap.binary import write_points_binary
from scene.readers.points import read_point_ply
from utils.errors import FormatError

MakeScene = Callable[..., Path]
ZERO = (0.0, 0.0, 0.0)


def write_ascii(path: Path, types: dict[str, str], rows: list[list[float]]) -> Path:
    lines = ["ply", "format ascii 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {kind} {name}" for name, kind in types.items()] + ["end_header"]
    path.write_text("\n".join([*lines, *(" ".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("kind", "shown", "expected"),
    [
        ("uchar", [255, 51, 0], (1.0, 0.2, 0.0)),
        ("uchar", [1, 1, 0], (1 / 255, 1 / 255, 0.0)),
        ("float", [1.0, 0.2, 0.0], (1.0, 0.2, 0.0)),
        ("double", [255.0, 51.0, 0.0], (1.0, 0.2, 0.0)),
        ("int", [255, 51, 0], (1.0, 0.2, 0.0)),
    ],
)
@pytest.mark.parametrize("names", ["red green blue", "r g b"])
def test_colours(
    tmp_path: Path, kind: str, shown: list[float], expected: tuple[float, ...], names: str
) -> None:
    types = {**dict.fromkeys("xyz", "double"), **dict.fromkeys(names.split(), kind)}
    path = write_ascii(tmp_path / "a.ply", types, [[1, 2, 3, *shown]])
    notices: list[str] = []
    cloud = read_point_ply(path, ZERO, notices)
    np.testing.assert_allclose(cloud.colors[0], expected, atol=1e-6)
    assert cloud.positions.tolist() == [[1, 2, 3]] and not notices


def test_points_without_colours_are_grey_and_told(tmp_path: Path) -> None:
    path = write_ascii(tmp_path / "a.ply", dict.fromkeys("xyz", "float"), [[1, 2, 3]])
    notices: list[str] = []
    assert read_point_ply(path, ZERO, notices).colors.tolist() == [[0.5, 0.5, 0.5]]
    assert len(notices) == 1 and "no colours" in notices[0]


def test_colours_of_splats(tmp_path: Path) -> None:
    names = ("f_dc_0", "f_dc_1", "f_dc_2")
    types = {**dict.fromkeys("xyz", "float"), **dict.fromkeys(names, "float")}
    path = write_ascii(tmp_path / "a.ply", types, [[1, 2, 3, 0, 9, -9]])
    assert read_point_ply(path, ZERO, []).colors.tolist() == [[0.5, 1.0, 0.0]]


def test_colours_beyond_all_scales(tmp_path: Path) -> None:
    types = {**dict.fromkeys("xyz", "float"), **dict.fromkeys(("red", "green", "blue"), "ushort")}
    path = write_ascii(tmp_path / "a.ply", types, [[1, 2, 3, 65535, 0, 0]])
    with pytest.raises(FormatError, match="0..255"):
        read_point_ply(path, ZERO, [])


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), no_masks=True, **changes), seed=0)


def write_points(source: Path, positions: np.ndarray) -> None:
    colors = np.full((len(positions), 3), 9, np.uint8)
    write_points_binary(source / "sparse/0/points3D.bin", ColmapPoints(positions, colors))


def test_a_cloud_can_be_thinned(make_scene: MakeScene) -> None:
    source = make_scene()
    few, again = load(source, max_points=20), load(source, max_points=20)
    assert len(few.points) == 20 and torch.equal(few.points.positions, again.points.positions)
    everything = {tuple(row) for row in load(source).points.positions.tolist()}
    assert {tuple(row) for row in few.points.positions.tolist()} < everything
    assert "20 of the cloud's 50 points" in few.notices[0]
    assert load(source, max_points=50).notices == ()


def test_a_huge_cloud_is_worth_a_word(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_scene()
    write_points(source, np.random.default_rng(0).normal(size=(2000, 3)))
    assert load(source).notices == ()
    monkeypatch.setattr(module, "MANY_POINTS", 1000)
    (notice,) = load(source).notices  # 2000 points for 1200 pixels
    assert "2000 points" in notice and "1200 pixels" in notice and "--max_points" in notice
    assert load(source, max_points=900).notices == (
        "900 of the cloud's 2000 points are kept, as --max_points asks",
    )


@pytest.mark.fault(row=30)
@pytest.mark.parametrize(
    "positions",
    [
        np.zeros((1, 3)),
        np.zeros((40, 3)),
        np.array([[0, 0, 0], [1, 0, 0.0]]),
        np.concatenate([np.random.default_rng(0).normal(size=(30, 3)), [[1e5, 0, 0]]]),
    ],
)
def test_few_double_and_far_points_make_sound_splats(
    make_scene: MakeScene, positions: np.ndarray
) -> None:
    source = make_scene()
    write_points(source, positions)
    scene = load(source)
    generator = torch.Generator().manual_seed(0)
    splats = GaussianModel.from_points(scene.points, 0, 4, generator, 0.1)
    assert len(splats) == len(positions)
    assert all(bool(value.isfinite().all()) for value in splats.params.values())
    assert isinstance(scene.points, PointCloud) and scene.notices == ()
