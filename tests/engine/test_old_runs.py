# SPDX-License-Identifier: Apache-2.0
"""Runs that were trained by version 0.1, before methods had names, open and say the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from iqgs.engine.opening import open_run
from iqgs.engine.run import splat_labels
from utils.ply import read_ply

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("matching", "method", "queries"), [("id", "iqgs", 4), ("hungarian", "iqgs-h", 7)]
)
def test_a_run_of_version_0_1_opens(
    matching: str, method: str, queries: int, tmp_path: Path
) -> None:
    """`expected.npz` holds what that version found in the held-out views."""
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / f"run_0_1_{matching}", folder)
    run = open_run(folder, overrides={"backend": "reference"})
    assert run.config.segmentation.method == method
    assert run.learning_method.state_dict()["matched"].shape == (queries,)
    expected = np.load(folder / "expected.npz")
    for camera in run.cameras.test:
        found = run.learning_method.segment(run.lens(camera)).label_map.numpy()
        assert (found == expected[camera.name]).all()
    assert (run.cameras.train[0].uid, len(run.cameras.train)) == (1, 7)
    labels = splat_labels(run).labels.numpy()
    viewer = read_ply(folder / "point_cloud/iteration_120/point_cloud_viewer.ply")
    assert (labels == viewer["instance"]).mean() > 0.97  # which splats count as seen has changed
