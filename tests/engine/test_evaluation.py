# SPDX-License-Identifier: Apache-2.0
"""A trained run is scored from memory, against masks in the ids of their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments import RunConfig
from arguments.evaluation import EvaluationParams, parse_evaluation_arguments
from iqgs.engine.opening import open_run
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.scoring.run_scores import evaluate_run
from iqgs.engine.scoring.truth import find_truth
from iqgs.engine.training import train
from iqgs.evaluation.scorer import SceneScorer
from scene.masks import FORMATS, MaskContent
from utils.errors import DataError, UserError
from utils.images import write_id_map

from .blobs import IDS


def test_the_spheres_are_found_in_held_out_views_and_in_space(trained: tuple[Path, Path]) -> None:
    run = open_run(trained[1])
    ours, vote = evaluate_run(run, EvaluationParams(model_paths=(str(trained[1]),)))
    assert (ours.key, vote.key) == ("ours_1100", "vote_1100")
    assert ours.values["views"] == 3
    assert ours.values["missing"] == 0
    assert ours.values["mIoU_gt"] > 0.75
    assert ours.values["mIoU_pred"] > 0.75
    assert vote.values["mIoU_gt"] > 0.75
    assert ours.values["PSNR"] > 22
    assert ours.values["PSNR_affine"] >= ours.values["PSNR"] - 0.1
    assert ours.values["ground_truth"] == "pseudo:object_mask"
    assert ours.scores is not None
    assert {row.id for row in ours.scores.objects} == set(IDS)


def test_scores_follow_the_truth_that_is_given(trained: tuple[Path, Path], tmp_path: Path) -> None:
    scene, run_path = trained
    renamed = tmp_path / "renamed"
    for path in (scene / "object_mask").glob("*.png"):
        ids = np.asarray(Image.open(path))
        renamed.mkdir(exist_ok=True)
        write_id_map(renamed / path.name, np.where(ids == 3, 7, np.where(ids == 7, 3, ids)))
    run = open_run(run_path)
    (by_id,) = evaluate_run(
        run, EvaluationParams(model_paths=(str(run_path),), gt_path=str(renamed), vote=False)
    )
    (by_scene,) = evaluate_run(
        run,
        EvaluationParams(
            model_paths=(str(run_path),), gt_path=str(renamed), matching="scene", vote=False
        ),
    )
    assert by_id.values["mIoU_gt"] < 0.5 < 0.75 < by_scene.values["mIoU_gt"]
    with pytest.raises(UserError, match="--gt_path nowhere"):
        find_truth(
            run, run.scene.test, EvaluationParams(model_paths=(str(run_path),), gt_path="nowhere")
        )


def test_a_truth_without_any_mask_of_the_views_is_refused(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run = open_run(trained[1])
    params = EvaluationParams(model_paths=("run",), gt_path=str(tmp_path))
    with pytest.raises(UserError, match="no mask for any of the 3 images"):
        find_truth(run, run.scene.test, params)


def test_without_true_masks_those_that_were_learned_from_are_the_truth(
    trained: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = shutil.copytree(trained[0], tmp_path / "scene")
    (scene / "object_mask").rename(scene / "mine")
    run = open_run(trained[1], overrides={"source_path": str(scene), "object_path": "mine"})
    with caplog.at_level("INFO"):
        truth = find_truth(run, run.scene.test, EvaluationParams(model_paths=("run",)))
    assert truth.kind == "pseudo:mine" and run.scene.test[0].name in truth
    assert "mine, which was trained on, is taken for the truth" in caplog.text


def test_truth_that_names_no_objects_is_not_scored_by_id(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    scene, run_path = trained
    run = open_run(run_path)
    for path in (scene / "object_mask").glob("*.png"):
        content = MaskContent.of_map(np.asarray(Image.open(path)).astype(np.int64) * 7919)
        FORMATS["rgb_ids"].write(tmp_path / "colored" / path.name, content)
        lists = MaskContent.of_layers(content.as_layers(), "view")
        FORMATS["sam_list"].write(tmp_path / f"lists/{path.stem}.json", lists)
    for name, reason in (
        ("colored", "with numbers and these hold colours"),
        ("lists", "numbers its objects anew"),
    ):
        folder = str(tmp_path / name)
        params = EvaluationParams(model_paths=("run",), gt_path=folder, vote=False)
        with pytest.raises(UserError, match=f"{name}.*{reason}.*--matching scene"):
            evaluate_run(run, params)
        params = replace(params, matching="scene")
        assert evaluate_run(run, params)[0].values["mIoU_gt"] > 0.75


def test_an_ignored_value_is_scored_on_neither_side(trained: tuple[Path, Path]) -> None:
    """What the run says of the pixels of a value that means nothing is not held against it."""
    scene, run_path = trained
    run = open_run(run_path, overrides={"ignore_label": 300})
    assert run.ids is not None and run.ids.originals == (3, 7, 300)  # what it learned stays
    params = EvaluationParams(model_paths=("run",), vote=False)
    truth = find_truth(run, run.scene.test, params)
    scorer = SceneScorer("id", "background")
    for view in run.scene.test:
        filed = np.asarray(Image.open(scene / "object_mask" / view.name)).astype(np.int64)
        true = truth.of(view)
        np.testing.assert_array_equal(true == -1, filed == 300)
        scorer.add_view(view.name, filed, true)  # says 300 as ever
    values = scorer.result().values
    assert values["mIoU_pred"] == values["mIoU_gt"] == values["PQ"] == 1.0
    assert values["gt_instances"] == values["pred_instances"]


def test_scene_json_says_what_the_truth_is(trained: tuple[Path, Path]) -> None:
    scene, run_path = trained
    run = open_run(run_path)
    (scene / "scene.json").write_text(json.dumps({"ground_truth": "synthetic"}))
    try:
        params = EvaluationParams(model_paths=(str(run_path),))
        assert find_truth(run, run.scene.test, params).kind == "synthetic"
        human = EvaluationParams(model_paths=(str(run_path),), ground_truth="human")
        assert find_truth(run, run.scene.test, human).kind == "human"
    finally:
        (scene / "scene.json").unlink()


def test_results_json_has_the_promised_shape(trained: tuple[Path, Path]) -> None:
    text, code = evaluate_runs(EvaluationParams(model_paths=(str(trained[1]),)))
    assert code == 0
    assert "mIoU_pred" in text and "mIoU_gt" in text
    stored = json.loads((trained[1] / "results.json").read_text())["ours_1100"]["test"]
    wanted = (
        "mIoU_pred mIoU_pred_strict mIoU_gt mBIoU PQ SQ RQ PQ_scene AP PSNR PSNR_affine SSIM views "
        "missing matching filter ground_truth zero_label"
    )
    assert set(wanted.split()) <= set(stored)
    assert all(0 <= stored[key] <= 1 for key in ("mIoU_pred", "mIoU_gt", "PQ", "SSIM"))


@pytest.mark.fault(row=42)
def test_a_broken_run_is_a_failed_row_and_the_rest_is_scored(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trained[1], broken)
    for ply in broken.glob("point_cloud/*/point_cloud.ply"):
        ply.write_bytes(b"ply\nnonsense")
    missing = str(tmp_path / "missing")
    paths = (str(broken), str(trained[1]), missing)
    text, code = evaluate_runs(EvaluationParams(model_paths=paths, vote=False, format="csv"))
    assert code == 1
    lines = {line.split(",")[0]: line for line in text.splitlines()}
    assert "holds no run" in lines[missing]
    assert lines[str(trained[1])].count("ours_1100") == 1


@pytest.mark.parametrize("form", ["text", "json", "csv", "markdown", "latex"])
def test_every_form_of_the_table_is_printed(trained: tuple[Path, Path], form: str) -> None:
    text, code = evaluate_runs(
        EvaluationParams(model_paths=(str(trained[1]),), vote=False, format=form)
    )
    assert code == 0 and str(trained[1].name) in text.replace("\\_", "_")


def test_a_view_that_was_trained_on_is_never_scored_as_held_out(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """The scene's split changed after training: refused, not scored."""
    scene, run_path = trained
    copy = tmp_path / "run"
    shutil.copytree(run_path, copy)
    split = {"train": ["000.png", "001.png"], "test": ["002.png", "003.png"]}
    (scene / "split.json").write_text(json.dumps(split))
    try:
        run = open_run(copy)
        with pytest.raises(DataError, match=r"002\.png"):
            evaluate_run(run, EvaluationParams(model_paths=(str(copy),)))
    finally:
        (scene / "split.json").unlink()


def test_no_views_held_out_is_one_sentence(make_config: Callable[..., RunConfig]) -> None:
    config = make_config("all", eval=False, iterations=2, instance_iterations=2)
    assert train(config) == 0
    run = open_run(config.model.model_path)
    with pytest.raises(UserError, match="--eval"):
        evaluate_run(run, EvaluationParams(model_paths=(config.model.model_path,)))


def test_wrong_command_lines() -> None:
    for arguments in ([], ["-m", "x", "--split", "all"], ["-m", "x", "--min_area", "0"]):
        with pytest.raises(UserError):
            parse_evaluation_arguments(arguments)


def test_the_newest_masks_of_texts_are_those_of_the_highest_iteration(tmp_path: Path) -> None:
    """As numbers: as words 900 would come after 1100."""
    for name in ("ours_900_text", "ours_1100_text", "ours_1100", "ours_x_text"):
        (tmp_path / "test" / name / "test_mask").mkdir(parents=True)
    params = EvaluationParams(model_paths=(str(tmp_path),), protocol="lerf-mask")
    (tmp_path / "config.json").write_text('{"model": {"source_path": "nowhere"}}')
    seen: list[Path] = []

    def scored(truth: Path, folder: Path) -> None:
        seen.append(folder)
        raise DataError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iqgs.engine.scoring.results.lerf_mask_scores", scored)
        evaluate_runs(params)
    assert [folder.parent.name for folder in seen] == ["ours_1100_text"]
