# SPDX-License-Identifier: Apache-2.0
"""Masks that do not agree are mended before instances are learned from them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse

from arguments.evaluation import EvaluationParams
from arguments.rendering import RenderParams
from diff_surfel_rasterization import BlendWeights
from iqgs.engine.association import weighing
from iqgs.engine.association.masks_folder import AssociatedMasks, numbers_that_fit
from iqgs.engine.opening import open_run
from iqgs.engine.pictures.views import render_run
from iqgs.engine.scoring.run_scores import evaluate_run
from iqgs.engine.settings import going_on_settings, resolve_run
from iqgs.engine.training import train
from utils.checkpoints import load_checkpoint
from utils.colors import id_color
from utils.errors import DataError, MaskError
from utils.images import write_id_map
from utils.json_files import read_json

from .blobs import IDS, write_blobs
from .conftest import SHORT
from .test_training import assert_same


def read_id_map(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int64)


SPLATS = {"iterations": 500, "densify_until_iter": 300, "splat_cap": 800, "sh_interval": 150}
STEPS = 120
BROKEN, SWITCHED, MISSING = 5, 9, 12  # views of the faults below
NEW_ID = 900


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the true masks: `faulty` of a tracker, `fresh` with ids of no meaning."""
    source = write_blobs(tmp_path_factory.mktemp("repair") / "scene", views=17)
    rng = np.random.default_rng(3)
    for number, path in enumerate(sorted((source / "object_mask").iterdir())):
        ids = read_id_map(path)
        faulty = ids.copy()
        if number >= BROKEN:  # an object gets another id for good
            faulty[ids == IDS[0]] = NEW_ID
        if number == SWITCHED:
            faulty[ids == IDS[1]], faulty[ids == IDS[2]] = IDS[2], IDS[1]
        if number == MISSING:
            faulty[ids == IDS[2]] = 0
        fresh = np.zeros_like(ids)
        for value, other in zip(IDS, rng.choice(np.arange(1, 60), 3, replace=False), strict=True):
            fresh[ids == value] = other
        for name, made in (("faulty", faulty), ("fresh", fresh)):
            (source / name).mkdir(exist_ok=True)
            write_id_map(source / name / path.name, made)
    return source


@pytest.fixture(scope="module")
def splats(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repair") / "splats"
    config = {**SHORT, **SPLATS, "source_path": str(scene), "model_path": str(folder)}
    assert train(resolve_run({**config, "no_masks": True})) == 0
    return folder / "point_cloud" / "iteration_500" / "point_cloud.ply"


def settings(scene: Path, splats: Path, folder: Path, **more: object) -> dict[str, object]:
    return {
        **SHORT,
        "source_path": str(scene),
        "model_path": str(folder),
        "start_ply": str(splats),
        "instance_iterations": STEPS,
        "pixels_per_step": 512,
        "repair_masks": "auto",
        **more,
    }


@pytest.fixture(scope="module")
def mended(scene: Path, splats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repair") / "mended"
    more = {"object_path": "faulty", "checkpoint_iterations": [40]}
    assert train(resolve_run(settings(scene, splats, folder, **more))) == 0
    return folder


def scores(folder: Path) -> dict[str, dict[str, object]]:
    params = EvaluationParams(model_paths=(str(folder),), quiet=True)
    return {row.key.rsplit("_", 1)[0]: row.values for row in evaluate_run(open_run(folder), params)}


def test_faults_of_a_tracker_are_undone(mended: Path, scene: Path) -> None:
    masks = AssociatedMasks.read(mended / AssociatedMasks.IN_RUN)
    assert masks is not None and masks.table.originals == IDS and not masks.tracks
    wrong = said = 0
    for name, file in masks.files.items():
        found = read_id_map(masks.folder / file)
        truth = read_id_map(scene / "object_mask" / Path(name).with_suffix(".png").name)
        known = found != 65535
        wrong, said = wrong + int((found != truth)[known].sum()), said + int(known.sum())
    assert said > 0.98 * sum(48 * 36 for _ in masks.files) and wrong < 0.01 * said
    report = read_json(masks.folder / "association.json")
    assert report["merged_ids"] == {str(NEW_ID): IDS[0]}
    assert [row["id"] for row in report["objects"]] == list(IDS)
    assert report["objects"][0]["was"] == [NEW_ID]
    assert {(row["to"], row["from"]) for row in report["given_back"]} == {(IDS[2], 0)}


def test_both_votes_stand_beside_the_method(mended: Path) -> None:
    found = scores(mended)
    assert set(found) == {"ours", "vote_repaired", "vote"}
    assert found["ours"]["mIoU_gt"] > 0.6
    assert found["vote_repaired"]["mIoU_gt"] > found["vote"]["mIoU_gt"] + 0.1  # type: ignore[operator]


def test_pictures_show_the_masks_of_the_scene(mended: Path, scene: Path) -> None:
    run = open_run(mended)
    params = RenderParams(model_path=str(mended), skip_test=True, quiet=True)
    render_run(run, params)
    (folder,) = (mended / "train").glob("ours_*/gt_objects_color")
    view = run.scene.train[BROKEN + 2]
    shown = np.asarray(Image.open(folder / Path(view.name).with_suffix(".png").name))
    raw = read_id_map(scene / "faulty" / Path(view.name).with_suffix(".png").name)
    assert np.array_equal(shown, id_color(raw)) and (raw == NEW_ID).any()


def test_a_run_goes_on_with_the_masks_that_it_mended(
    mended: Path, scene: Path, splats: Path, tmp_path: Path
) -> None:
    shutil.copytree(mended, tmp_path / "run")
    (tmp_path / "run" / f"chkpnt{STEPS}.pth").unlink()
    asked = {"model_path": str(tmp_path / "run"), "resume": "auto"}
    assert train(resolve_run({**going_on_settings(asked), **asked})) == 0
    one, other = (load_checkpoint(f / f"chkpnt{STEPS}.pth") for f in (mended, tmp_path / "run"))
    for part in ("gaussians", "method", "stage_state"):
        assert_same(one[part], other[part])
    shutil.rmtree(tmp_path / "run" / AssociatedMasks.IN_RUN)
    (tmp_path / "run" / f"chkpnt{STEPS}.pth").unlink()
    with pytest.raises(DataError, match="repaired_masks is missing"):
        train(resolve_run({**going_on_settings(asked), **asked}))


def test_masks_that_agree_are_left_alone(scene: Path, splats: Path, tmp_path: Path) -> None:
    assert train(resolve_run(settings(scene, splats, tmp_path / "auto"))) == 0
    more = {"repair_masks": "off"}
    assert train(resolve_run(settings(scene, splats, tmp_path / "off", **more))) == 0
    assert not (tmp_path / "auto" / AssociatedMasks.IN_RUN).exists()
    one, other = (load_checkpoint(tmp_path / n / f"chkpnt{STEPS}.pth") for n in ("auto", "off"))
    for part in ("gaussians", "method", "stage_state"):
        assert_same(one[part], other[part])


@pytest.mark.parametrize("method", ["iqgs", "iqgs-h", "vote"])
def test_fresh_ids_become_tracks(method: str, scene: Path, splats: Path, tmp_path: Path) -> None:
    more = {"object_path": "fresh", "method": method}
    assert train(resolve_run(settings(scene, splats, tmp_path / "run", **more))) == 0
    run = open_run(tmp_path / "run")
    assert run.repaired is not None and run.repaired.tracks
    assert run.method is not None and run.method.ids == "clusters"
    assert run.ids is not None and run.ids.originals == (1, 2, 3)
    assert scores(tmp_path / "run")["ours"]["mIoU_gt"] > 0.6


def test_ignored_id_zero_is_not_filled(scene: Path, splats: Path, tmp_path: Path) -> None:
    more = {"object_path": "faulty", "zero_label": "ignore", "instance_iterations": 5}
    assert train(resolve_run(settings(scene, splats, tmp_path / "run", **more))) == 0
    masks = AssociatedMasks.read(tmp_path / "run" / AssociatedMasks.IN_RUN)
    assert masks is not None
    for name, file in masks.files.items():
        raw = read_id_map(scene / "faulty" / Path(name).with_suffix(".png").name)
        assert (read_id_map(masks.folder / file)[raw == 0] == 65535).all()


def test_numbers_beyond_sixteen_bits_find_room() -> None:
    names = np.array([3, 70_000, 1, 65_534, 65_535])
    assert numbers_that_fit(names).tolist() == [3, 2, 1, 65_534, 4]
    with pytest.raises(MaskError, match="do not fit 16 bits"):
        numbers_that_fit(np.arange(1, 65_537))


def test_the_report_is_whole_json(mended: Path) -> None:
    text = (mended / AssociatedMasks.IN_RUN / "association.json").read_text()
    assert json.loads(text)["views"] == len(json.loads(text)["files"])


def test_a_choice_of_splats_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((50, 300)) < 0.1, rng.random((50, 300)), 0).astype(np.float32)
    full = sparse.csr_matrix(dense)
    weights = BlendWeights(
        row_start=torch.from_numpy(full.indptr.astype(np.int64)),
        splat=torch.from_numpy(full.indices.astype(np.int32)),
        weight=torch.from_numpy(full.data),
        n_splats=300,
    )
    monkeypatch.setattr(weighing, "MOST_SPLATS", 120)
    choice = weighing.SplatChoice.of(300, seed=1)
    assert choice.column is not None and len(choice) == 120
    chosen = choice.column >= 0
    assert np.array_equal(weighing._matrix(weights, None, choice).toarray(), dense[:, chosen])
    means = rng.random((300, 3))
    spread = choice.spread(np.arange(120), means)
    assert np.array_equal(spread[chosen], np.arange(120))
    near = ((means[~chosen][:, None] - means[chosen][None]) ** 2).sum(-1).argmin(1)
    assert np.array_equal(spread[~chosen], near)
    assert weighing.SplatChoice.of(100, seed=1).column is None


@pytest.mark.parametrize("folder", ["object_mask", "faulty"])
def test_ids_beyond_sixteen_bits_stay(
    folder: str, scene: Path, splats: Path, tmp_path: Path
) -> None:
    source = tmp_path / "scene"
    shutil.copytree(scene, source)
    for name in ("object_mask", "faulty"):
        for path in (source / name).iterdir():
            ids = read_id_map(path)
            path.unlink()
            write_id_map(path.with_suffix(".tiff"), np.where(ids > 0, ids + 210_000, 0))
    large = tuple(number + 210_000 for number in IDS)
    more = {"object_path": folder, "instance_iterations": STEPS}
    assert train(resolve_run(settings(source, splats, tmp_path / "run", **more))) == 0
    run = open_run(tmp_path / "run")
    assert run.ids is not None and run.ids.originals == large
    assert (run.repaired is None) == (folder == "object_mask")
    assert scores(tmp_path / "run")["ours"]["mIoU_gt"] > 0.6
    if run.repaired is not None:
        values = [read_id_map(run.repaired.folder / file) for file in run.repaired.files.values()]
        assert set(np.unique(np.concatenate(values))) <= {-1, 0, *large}


def test_splats_that_show_nothing_change_no_masks(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"object_path": "faulty", "start_ply": "", "iterations": 2, "instance_iterations": 5}
    with caplog.at_level(logging.WARNING):
        assert train(resolve_run(settings(scene, Path(), tmp_path / "run", **more))) == 0
    assert open_run(tmp_path / "run").repaired is None
    assert "the splats hardly agree with any masks" in caplog.text
    assert "the masks are left as they are" in caplog.text
