# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iqgs.evaluation.report import (
    SETTINGS,
    ResultTable,
    object_table,
    read_results,
    write_per_view,
    write_results,
)
from iqgs.evaluation.scorer import PROTOCOLS, SceneScorer
from utils.errors import DataError


def row(**changes: Any) -> dict[str, Any]:
    values = {
        "run": "output/room_a",
        "scene": "room",
        "method": "ours_2000",
        "split": "test",
        "ground_truth": "synthetic",
        "matching": "id",
        "filter": "panoptic 0.6, 4 px",
        "zero_label": "background",
        "min_area": 1,
        "views": 12,
        "gt_instances": 240,
        "pred_instances": 238,
        "missing": 0,
        "mIoU_pred": 0.951234,
        "mIoU_gt": 1.0,
        "PSNR": 34.512,
        "SSIM": 0.97,
        "id_switches": 0.25,
        "intervals": {"mIoU_pred": (0.94, 0.9612)},
    }
    return {**values, **changes}


FAILED = {"run": "output/b", "scene": "b", "error": "output/b/results.json does not exist"}
PRIMARY = ("mIoU_pred", "mIoU_gt", "PQ")


def test_text_shows_every_setting_percent_and_failures() -> None:
    table = ResultTable((row(), FAILED), PRIMARY)
    text = table.text()
    for setting in SETTINGS:
        assert setting in text
    for cell in ("panoptic 0.6, 4 px", "synthetic", "240", "238", "95.1 [94.0 96.1]", "100.0"):
        assert cell in text
    for cell in ("34.51", "PSNR (dB)", "0.970", "0.25"):
        assert cell in text
    assert "0.951" not in text
    assert "FAILED output/b: output/b/results.json does not exist" in text
    assert table.failed and not ResultTable((row(),), PRIMARY).failed
    header = next(line for line in text.splitlines() if "mIoU_pred" in line)
    scores = text.splitlines()[text.splitlines().index(header) + 1]
    assert header.index("mIoU_gt") == scores.index("100.0")  # columns are aligned
    assert header.split()[1:4] == list(PRIMARY)
    assert scores.split()[5] == "-"  # PQ was asked for and is not there


def test_undefined_scores_are_dashes_and_null() -> None:
    table = ResultTable((row(mIoU_gt=math.nan, PSNR=math.inf),), PRIMARY)
    line = table.text().splitlines()[-1]
    assert line.split()[4] == "-"
    stored = json.loads(table.json())["rows"][0]
    assert stored["mIoU_gt"] is None and stored["PSNR"] is None


def test_json_and_csv_keep_fractions_in_full() -> None:
    table = ResultTable((row(), FAILED), PRIMARY)
    assert json.loads(table.json())["rows"][0]["mIoU_pred"] == 0.951234
    first, second = csv.DictReader(io.StringIO(table.csv()))
    assert float(first["mIoU_pred"]) == 0.951234
    assert (first["mIoU_pred_low"], first["mIoU_pred_high"]) == ("0.94", "0.9612")
    assert first["filter"] == "panoptic 0.6, 4 px"
    assert second["error"] == FAILED["error"] and second["mIoU_pred"] == ""


def test_markdown_and_latex_are_well_formed() -> None:
    table = ResultTable((row(run="a|b_c & 5%"), FAILED), PRIMARY)
    for block in table.markdown().strip().split("\n\n"):
        lines = block.replace(r"\|", "").splitlines()
        assert len({line.count("|") for line in lines}) == 1 and len(lines) == 4
    latex = table.latex()
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [line.replace(r"\&", "").count("&") for line in body] == [len(PRIMARY)] * 3
    assert r"b\_c \& 5\%" in latex and r"mIoU\_pred" in latex and "matching: id" in latex
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrr}"):
        assert latex.count(rule) == 1


def test_write_takes_the_form_from_the_suffix(tmp_path: Path) -> None:
    table = ResultTable((row(),), PRIMARY)
    forms = {"txt": table.text, "md": table.markdown, "tex": table.latex}
    for suffix, form in {**forms, "json": table.json, "csv": table.csv}.items():
        table.write(tmp_path / f"table.{suffix}")
        assert (tmp_path / f"table.{suffix}").read_text() == form()
    with pytest.raises(ValueError, match="xlsx"):
        table.write(tmp_path / "table.xlsx")


def test_results_merge_and_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run" / "results.json"
    path.parent.mkdir()
    write_results(path, "ours_2000", "test", {"PSNR": np.float32(34.5), "views": np.int64(12)})
    write_results(path, "ours_2000", "train", {"PSNR": 40.0})
    write_results(path, "ours_2000", "test", {"mIoU_gt": np.float64(0.5), "AP": math.nan})
    write_results(path, "ours_300", "test", {"PSNR": 20.0})
    assert json.loads(path.read_text()) == {
        "ours_2000": {
            "test": {"PSNR": 34.5, "views": 12, "mIoU_gt": 0.5, "AP": None},
            "train": {"PSNR": 40.0},
        },
        "ours_300": {"test": {"PSNR": 20.0}},
    }
    assert read_results(path, "test")["mIoU_gt"] == 0.5  # the highest iteration
    assert read_results(path, "test", "ours_300")["PSNR"] == 20.0
    with pytest.raises(DataError, match="no results of ours_300 on train"):
        read_results(path, "train", "ours_300")
    assert list(path.parent.iterdir()) == [path]  # no temporary stays


@pytest.mark.parametrize("content", ["{", "[]", '{"ours_2000": 3}', '{"ours_2000": {"test": []}}'])
def test_a_broken_results_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"results\.json"):
        write_results(path, "ours_2000", "test", {"PSNR": 1.0})
    with pytest.raises(DataError, match=r"results\.json"):
        read_results(path, "test")
    assert path.read_text() == content


def test_one_broken_run_of_several_is_a_failed_row(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("ramen", "broken", "never", "teatime")]
    for run in (runs[0], runs[3]):
        write_results(run / "results.json", "ours_2000", "test", {"mIoU_pred": 0.5, "scene": "x"})
    runs[1].mkdir()
    (runs[1] / "results.json").write_bytes(b"\xff\x00{")
    table = ResultTable.from_runs(runs, "test", PROTOCOLS["iqgs"].primary)
    assert table.failed
    assert ["error" in r for r in table.rows] == [False, True, True, False]
    text = table.text()
    assert text.count("50.0") == 2 and f"FAILED {runs[1]}" in text and f"FAILED {runs[2]}" in text


def test_per_view_is_keyed_by_score_and_file_name(tmp_path: Path) -> None:
    per_view = {"a/0.png": {"PQ": 0.5, "missing": 0}, "b.png": {"PQ": math.nan, "missing": 1}}
    write_per_view(tmp_path / "per_view.json", "ours_2000", "test", per_view)
    assert json.loads((tmp_path / "per_view.json").read_text())["ours_2000"]["test"] == {
        "PQ": {"a/0.png": 0.5, "b.png": None},
        "missing": {"a/0.png": 0, "b.png": 1},
    }


def test_scores_of_a_scene_fit_the_table_and_the_file(tmp_path: Path) -> None:
    labels = np.kron(np.array([[1, 2], [0, 3]]), np.ones((8, 8), np.int64))
    scorer = SceneScorer("id", "background", names={1: "cup"})
    scorer.add_view("v.png", np.where(labels == 2, 0, labels), labels)
    result = scorer.result()
    write_results(
        tmp_path / "results.json",
        "ours_1",
        "test",
        {**result.values, "intervals": result.intervals},
    )
    table = ResultTable.from_runs([tmp_path], "test", PROTOCOLS["iqgs"].primary)
    assert not table.failed
    assert "66.7" in table.text() and "100.0 [100.0 100.0]" in table.text()
    lines = object_table(result.objects).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["2", "2", "0.0"],
        ["1", "cup", "100.0"],
        ["3", "3", "100.0"],
    ]
