# SPDX-License-Identifier: Apache-2.0
"""A run on a scene in the coordinates of maps: its frame is written, kept, and obeyed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arguments import RunConfig
from iqgs.engine.opening import open_run
from iqgs.engine.scoring.surfaces import surface_scores
from iqgs.engine.training import train
from scene.frame import FRAME_FILE, SceneFrame
from scene.readers.colmap import read_colmap_model, write_colmap_model
from utils.errors import UserError

from .blobs import IDS, SPHERES

SHIFT = np.array([512345.678, 5412345.678, 312.5])


@pytest.fixture
def far(blobs: Path, tmp_path: Path) -> Path:
    """The three spheres, as if a survey had placed them."""
    folder = tmp_path / "far"
    shutil.copytree(blobs, folder)
    model = read_colmap_model(folder / "sparse/0")
    images = []
    for image in model.images:
        moved = np.array(image.translation) - image.world_to_view()[:3, :3] @ SHIFT
        images.append(replace(image, translation=tuple(float(v) for v in moved)))
    assert model.points is not None
    points = replace(model.points, positions=model.points.positions + SHIFT)
    write_colmap_model(folder / "sparse/0", list(model.cameras.values()), images, points)
    return folder


def test_a_far_run_is_the_near_one(
    far: Path, make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    assert train(make_config("far_run", source_path=str(far))) == 0
    assert train(make_config("near_run")) == 0
    away, near = open_run(tmp_path / "far_run"), open_run(tmp_path / "near_run")
    frame = SceneFrame.read(tmp_path / "far_run" / FRAME_FILE)
    assert away.scene.frame == frame and any(frame.origin)
    assert near.scene.frame.origin == (0.0, 0.0, 0.0)
    rest = SHIFT - np.array(frame.origin)
    found = away.gaussians.means.detach().numpy() - rest
    expected = near.gaussians.means.detach().numpy()
    assert len(found) == len(expected)  # growth decided the same
    assert np.abs(np.median(found, axis=0) - np.median(expected, axis=0)).max() < 0.05
    cameras = json.loads((tmp_path / "far_run/cameras.json").read_text())
    plain = json.loads((tmp_path / "near_run/cameras.json").read_text())
    np.testing.assert_allclose(cameras[0]["position"], plain[0]["position"] + rest, atol=1e-6)


def test_a_run_is_opened_and_goes_on_in_its_own_coordinates(
    far: Path, make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = make_config("run", source_path=str(far))
    assert train(config) == 0
    path = tmp_path / "run" / FRAME_FILE
    own = SceneFrame.read(path)
    other = SceneFrame((512000.0, 5412000.0, 300.0), (0.0, 0.0, 1.0))
    other.write(path)
    assert open_run(tmp_path / "run").scene.frame == other
    again = replace(config, train=replace(config.train, resume="auto"))
    with pytest.raises(UserError, match="another size or pose"):  # not those of cameras.json
        train(again)
    own.write(path)
    assert train(again) == 0
    assert SceneFrame.read(path) == own
    path.unlink()  # a run that is older than its scene's frame was trained in the files' own
    assert open_run(tmp_path / "run").scene.frame == SceneFrame()


def test_labelled_surfaces_are_in_the_coordinates_of_the_files(
    far: Path, make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    assert train(make_config("run", source_path=str(far))) == 0
    centers = np.array([sphere[:3] for sphere in SPHERES])
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(3000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    which = rng.integers(0, 3, 3000)
    radius = np.array([sphere[3] for sphere in SPHERES])[which, None]
    np.savez(
        far / "points3d_labels.npz",
        positions=centers[which] + radius * normals + SHIFT,
        labels=np.array(IDS)[which],
    )
    scores = surface_scores(open_run(tmp_path / "run"), "id", "background")
    assert scores and all(np.isfinite(value) for value in scores.values())
    assert max(scores.values()) > 0.1
