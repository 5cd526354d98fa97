# SPDX-License-Identifier: Apache-2.0
"""Runs of version 0.1, before methods and splats had names, and of other programs, open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arguments import RunConfig
from iqgs.engine.opening import open_run
from iqgs.engine.run import splat_labels
from iqgs.engine.settings import going_on_settings, resolve_run
from iqgs.engine.training import train
from scene.splat_files.splat_file import write_splats
from tests.scene.splat_files.formula import discs
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import FormatError, UserError
from utils.ply import read_ply

from .blobs import write_blobs

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
    # That version labelled splats by their attributes alone.
    run = open_run(folder, overrides={"backend": "reference", "splat_labels": "method"})
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


@pytest.mark.fault(row=14)
@pytest.mark.parametrize("kind", ["2dgs", "3dgs"])
def test_a_run_of_another_program_is_rendered_as_what_it_is(kind: str, tmp_path: Path) -> None:
    """2DGS, 3DGS and Gaussian Grouping leave cfg_args, which does not name the splats."""
    scene = write_blobs(tmp_path / "scene")
    folder = tmp_path / "run"
    cloud = folder / "point_cloud/iteration_7/point_cloud.ply"
    cloud.parent.mkdir(parents=True)
    settings = f"Namespace(source_path='{scene}', model_path='x', sh_degree=1, eval=True)"
    (folder / "cfg_args").write_text(settings)
    write_splats(cloud, discs(scales=2 if kind == "2dgs" else 3))
    run = open_run(folder)
    assert run.gaussians.kind == run.config.pipeline.primitive == kind
    assert run.config.optimization.lambda_normal == (0.05 if kind == "2dgs" else 0.0)
    assert float(run.lens(run.cameras.train[0]).alpha.max()) > 0.01
    other = {"2dgs": "3dgs", "3dgs": "2dgs"}[kind]
    with pytest.raises(FormatError, match="and not"):
        open_run(folder, overrides={"primitive": other})


def test_a_checkpoint_that_does_not_name_its_splats_goes_on_as_discs(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Versions that knew discs only wrote no `primitive`."""
    begun = {"iterations": 6, "no_masks": True, "checkpoint_iterations": [3], "lambda_normal": 0.0}
    assert train(make_config("run", **begun)) == 0
    path = tmp_path / "run/chkpnt3.pth"
    state = load_checkpoint(path)
    del state["config"]["pipeline"]["primitive"]
    save_checkpoint(path, state)
    typed = {"start_checkpoint": str(path), "model_path": str(tmp_path / "again")}
    with pytest.raises(UserError, match="--primitive 3dgs: the checkpoint holds .* kind 2dgs"):
        train(resolve_run(going_on_settings(typed), typed, {"primitive": "3dgs"}))
    assert train(resolve_run(going_on_settings(typed), typed, {"overwrite": True})) == 0
    assert open_run(tmp_path / "again").gaussians.kind == "2dgs"
