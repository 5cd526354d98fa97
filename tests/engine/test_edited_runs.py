# SPDX-License-Identifier: Apache-2.0
"""render.py and evaluate.py of a run that edit.py changed, and of a level of its objects."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest import LogCaptureFixture

from arguments.evaluation import EvaluationParams
from arguments.rendering import RenderParams
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.objects.recording import record_edits
from iqgs.engine.opening import open_run
from iqgs.engine.pictures.views import render_run, to_bytes
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.objects.edits import Name, Recolor, Remove
from utils.errors import UserError

Edit = Callable[..., list[str]]


def rendered(run: Path, **asked: object) -> Path:
    """The one folder that is written."""
    params = RenderParams(model_path=str(run), skip_train=True, quiet=True, **asked)  # type: ignore[arg-type]
    (folder,) = render_run(open_run(run), params)
    return folder


def pictures(folder: Path, kind: str) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted((folder / kind).iterdir())]


def test_edits_are_rendered_and_named(
    run: Path, edit: Edit, caplog: LogCaptureFixture, tmp_path: Path
) -> None:
    plain = rendered(run)
    assert plain.name == f"ours_{open_run(run).iteration}"
    before = {p.relative_to(plain): p.read_bytes() for p in plain.rglob("*") if p.is_file()}
    edit("name", "--id", "300", "--name", "middle")
    assert rendered(run) == plain, "a name changes no picture"
    assert json.loads((plain / "names.json").read_text())["300"] == ""
    edit("remove", "--id", "left")
    edit("recolor", "--id", "right", "--color", "0,0,255")
    with caplog.at_level(logging.INFO):
        folder = rendered(run, masks=True)
    assert "2 edits of the run are shown; --state trained leaves them out" in caplog.text
    assert folder == plain.with_name(f"{plain.name}_edited")
    objects, opened = edited_objects(open_run(run)), open_run(run)
    shown = [
        to_bytes(opened.renderer.lens(c, objects.splats).image.color) for c in opened.cameras.test
    ]
    for mine, wanted in zip(pictures(folder, "renders"), shown, strict=True):
        assert np.array_equal(mine, wanted)
    ids = set(np.unique(np.stack(pictures(folder, "objects_id"))).tolist())
    assert 7 in ids and ids <= {0, 7, 300}
    assert {p.stem for p in (folder / "masks").rglob("*.png")} == {str(n) for n in ids - {0}}
    assert json.loads((folder / "names.json").read_text()) == {"7": "right", "300": "middle"}
    again = rendered(run, state="trained")
    assert again == plain
    after = {p.relative_to(plain): p.read_bytes() for p in plain.rglob("*") if p.is_file()}
    assert after == before


def test_objects_are_rendered_at_a_level(run: Path, edit: Edit) -> None:
    whole, parts = rendered(run, level="0"), rendered(run, level="parts")
    assert whole.name.endswith("_level0") and parts.name.endswith("_level1")
    edit("list", "--no-previews", "--level", "1")
    record = json.loads((run / "objects/level1/objects.json").read_text())
    home = {row["id"]: row["parent"] or row["id"] for row in record["objects"]} | {0: 0}
    assert len(home) > 4
    agree = [
        np.vectorize(lambda n: home[n])(fine) == coarse
        for fine, coarse in zip(
            pictures(parts, "objects_id"), pictures(whole, "objects_id"), strict=True
        )
    ]
    # An object that has most of a pixel may have parts of which none has: borders differ.
    assert np.mean(agree) > 0.97
    names = json.loads((parts / "names.json").read_text())
    assert {"left part 1", "left part 2"} <= set(names.values())


def test_a_level_of_a_run_without_masks_is_refused(run: Path) -> None:
    opened = open_run(run)
    opened.method = opened.saved_labels = None
    with pytest.raises(UserError, match="--level 1: .* was trained without masks"):
        render_run(opened, RenderParams(model_path=str(run), level="1", quiet=True))


def test_scores_are_of_the_trained_run_unless_the_edited_one_is_asked_for(
    trained: tuple[Path, Path], tmp_path: Path, caplog: LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained[1], run)

    def scores(**asked: object) -> tuple[str, dict[str, dict[str, float]]]:
        params = EvaluationParams(model_paths=(str(run),), vote=False, quiet=True, **asked)  # type: ignore[arg-type]
        caplog.clear()
        with caplog.at_level(logging.INFO):
            text, code = evaluate_runs(params)
        if code:
            return text, {}
        results = json.loads((run / "results.json").read_text())
        return text, {key: row["test"] for key, row in results.items()}

    assert scores(state="edited")[1] == {}, "a run without edits is a failed row"
    assert "has no edits; leave the flag out" in caplog.text
    _, before = scores()
    opened = open_run(run)
    record_edits(opened, Name(7, "red"))
    assert "scored as training left it" not in (scores(), caplog.text)[1]
    record_edits(opened, Remove((7,)), Recolor((3,), (0.0, 0.0, 0.0)))
    text, after = scores()
    assert "2 edits: scored as training left it; --state edited" in caplog.text
    key = f"ours_{opened.iteration}"
    assert after[key] == before[key]
    text, both = scores(state="edited")
    assert both[key] == before[key] and "(edited)" in text
    edited = both[f"edited_{opened.iteration}"]
    assert edited["splats"] == len(edited_objects(opened)) < before[key]["splats"]
    assert edited["PSNR"] < before[key]["PSNR"] - 1
    assert edited["mIoU_gt"] < before[key]["mIoU_gt"] - 0.2


def test_other_protocols_score_the_trained_run_only() -> None:
    with pytest.raises(UserError, match="--state must be trained but with --protocol iqgs"):
        EvaluationParams(model_paths=("r",), protocol="nvos", state="edited")
    with pytest.raises(UserError, match="--state must be trained but with"):
        EvaluationParams(model_paths=("r",), decoder="d", state="edited")
