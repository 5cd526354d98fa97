# SPDX-License-Identifier: Apache-2.0
"""The entry ticket of every method: it learns, saves, loads, goes on, renders, scores, labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arguments.evaluation import EvaluationParams
from arguments.exporting import ExtractParams
from arguments.rendering import RenderParams
from iqgs.engine.objects.extraction import extract_object
from iqgs.engine.opening import open_run
from iqgs.engine.pictures.views import render_run
from iqgs.engine.run import splat_labels
from iqgs.engine.scoring.run_scores import evaluate_run
from iqgs.engine.settings import going_on_settings, resolve_run
from iqgs.engine.training import train
from iqgs.methods import METHODS
from iqgs.methods.clustering import ClusterParams
from iqgs.methods.protocol import Method
from scene.gaussian_model import GaussianModel
from utils.checkpoints import load_checkpoint
from utils.ply import read_ply

from .blobs import IDS, write_blobs
from .conftest import SHORT
from .test_training import assert_same

SPLATS = {"iterations": 500, "densify_until_iter": 300, "splat_cap": 800, "sh_interval": 150}
STEPS = 200  # of methods that are trained
MATCHED = "iqgs-h matched in each view"  # with masks as they are
LEAST_IOU = {MATCHED: 0.35, "unified-lift": 0.35}  # which have to find the objects first
# Every method on discs; on ellipsoids one that learns through gradients and one of closed form.
ENTRIES = [*((name, "2dgs") for name in (*METHODS, MATCHED)), ("iqgs", "3dgs"), ("vote", "3dgs")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("methods") / "scene", views=17)


@pytest.fixture(scope="module")
def splats(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """One reconstruction of each primitive for all methods."""

    @functools.cache
    def make(primitive: str) -> Path:
        folder = tmp_path_factory.mktemp("methods") / primitive
        config = {**SHORT, **SPLATS, "source_path": str(scene), "model_path": str(folder)}
        assert train(resolve_run({**config, "no_masks": True, "primitive": primitive})) == 0
        return folder / "point_cloud" / "iteration_500" / "point_cloud.ply"

    return make


@pytest.fixture(scope="module", params=ENTRIES, ids="-".join)
def learned(
    request: pytest.FixtureRequest,
    scene: Path,
    splats: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    """(method, run folder) after learning on the splats of a primitive."""
    name, primitive = request.param
    if issubclass(METHODS[name.split()[0]].params, ClusterParams):
        pytest.importorskip("sklearn", reason="scikit-learn, of requirements-dev.txt, is missing")
    folder = tmp_path_factory.mktemp(name) / "run"
    assert train(resolve_run(settings(name, primitive, scene, splats(primitive), folder))) == 0
    return name, folder


def settings(
    name: str, primitive: str, scene: Path, splats: Path, folder: Path
) -> dict[str, object]:
    return {
        **SHORT,
        "method": name.split()[0],
        "primitive": primitive,
        **({"repair_masks": "off"} if name == MATCHED else {}),
        "source_path": str(scene),
        "model_path": str(folder),
        "start_ply": str(splats),
        "instance_iterations": STEPS,
        "pixels_per_step": 512,
        "checkpoint_iterations": [5],
    }


def test_it_learns_and_is_scored(learned: tuple[str, Path]) -> None:
    run = open_run(learned[1])
    params = EvaluationParams(model_paths=(str(learned[1]),), vote=False, quiet=True)
    (row,) = evaluate_run(run, params)
    assert row.values["mIoU_gt"] > LEAST_IOU.get(learned[0], 0.6)
    assert row.values["views"] == 3


def test_what_is_loaded_is_what_was_saved(learned: tuple[str, Path]) -> None:
    """Both opened runs say the same of every pixel and of every splat."""
    first, second = open_run(learned[1]), open_run(learned[1])
    for camera in first.cameras.test:
        one, two = (run.learning_method.segment(run.lens(camera)) for run in (first, second))
        assert torch.equal(one.label_map, two.label_map) and one.scores == two.scores
    saved = load_checkpoint(first.folder / f"chkpnt{first.iteration}.pth")["method"]
    assert_same(_without_running_means(first.learning_method), _only_common(saved, first))
    viewer = read_ply(
        learned[1] / f"point_cloud/iteration_{first.iteration}/point_cloud_viewer.ply"
    )
    assert (splat_labels(first).labels.numpy() == viewer["instance"]).all()


def _without_running_means(method: Method) -> dict[str, object]:
    return {key: value for key, value in method.state_dict().items() if "queries" not in key}


def _only_common(saved: dict[str, object], run: object) -> dict[str, object]:
    return {key: value for key, value in saved.items() if "queries" not in key}


@pytest.mark.fault(row=5)
def test_it_goes_on_to_the_same_bits(learned: tuple[str, Path], tmp_path: Path) -> None:
    whole = learned[1]
    again = tmp_path / "again"
    typed = {"start_checkpoint": str(whole / "chkpnt5.pth"), "model_path": str(again)}
    assert train(resolve_run(going_on_settings(typed), typed)) == 0
    last = open_run(whole).iteration
    one, two = (load_checkpoint(folder / f"chkpnt{last}.pth") for folder in (whole, again))
    for key in ("gaussians", "method", "stage_state"):
        assert_same(one[key], two[key], key)
    for file in (whole / f"point_cloud/iteration_{last}").glob("*.ply"):
        assert file.read_bytes() == (again / file.relative_to(whole)).read_bytes()


def test_it_renders_ids_of_the_files_where_it_knows_them(learned: tuple[str, Path]) -> None:
    run = open_run(learned[1])
    (folder,) = render_run(run, RenderParams(model_path="x", skip_train=True, quiet=True))
    found = {
        int(i) for path in (folder / "objects_id").iterdir() for i in np.unique(Image.open(path))
    }
    assert len(found - {0}) >= 2
    if run.learning_method.ids == "global":
        assert found <= {0, *IDS}
        assert {3, 7, 300} & found


def test_its_settings_build_it_again(learned: tuple[str, Path]) -> None:
    run = open_run(learned[1])
    entry = METHODS[learned[0].split()[0]]
    assert isinstance(run.config.method, entry.params)
    assert dataclasses.asdict(run.config)["segmentation"]["method"] == learned[0].split()[0]
    assert (learned[1] / f"point_cloud/iteration_{run.iteration}" / entry.file).is_file()
    for parameter in run.gaussians.params.values():
        assert bool(torch.isfinite(parameter).all())
    assert (run.gaussians.instance_dim > 0) == entry.attribute
    assert run.gaussians.kind == run.config.pipeline.primitive


def test_an_object_is_cut_out_as_what_it_is(learned: tuple[str, Path], tmp_path: Path) -> None:
    run = open_run(learned[1])
    number = max(splat_labels(run).labels.tolist())
    path = tmp_path / "object.ply"
    params = ExtractParams(model_path=str(run.folder), id=str(number), output=str(path))
    assert str(path) in extract_object(run, params)
    mine = splat_labels(run).labels == number
    found = GaussianModel.load_ply(path, kind=run.gaussians.kind)
    assert torch.equal(found.params["log_scales"], run.gaussians.params["log_scales"][mine])


def test_a_run_opens_without_its_scene(learned: tuple[str, Path], tmp_path: Path) -> None:
    """Nothing of the scene is read for a film, for labels, or for a held-out view's ids."""
    import shutil

    copy = tmp_path / "moved"
    shutil.copytree(learned[1], copy)
    config = (copy / "config.json").read_text()
    source = open_run(learned[1]).config.model.source_path
    (copy / "config.json").write_text(config.replace(source, str(tmp_path / "nowhere")))
    run = open_run(copy)
    assert not run.has_scene
    params = RenderParams(model_path="x", skip_train=True, quiet=True, render_path=True)
    written = render_run(run, dataclasses.replace(params, path_frames=3))
    assert (written[-1]).is_file() and written[-1].suffix == ".mp4"
    before = open_run(learned[1])
    assert torch.equal(splat_labels(run).labels, splat_labels(before).labels)
    for moved, kept in zip(run.cameras.test, before.scene.test, strict=True):
        assert torch.equal(moved.world_to_view, kept.camera.world_to_view)
        assert (moved.name, moved.uid, moved.fx) == (
            kept.camera.name,
            kept.camera.uid,
            kept.camera.fx,
        )
