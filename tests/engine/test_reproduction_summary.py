# SPDX-License-Identifier: Apache-2.0
"""Tables of hand-made results: means over scenes, leads, and what a page and its files say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from iqgs.engine.reproduction.summary import mean_lines, standing
from iqgs.engine.reproduction.tables import aggregate, write_tables

MEASURES = ("mIoU_pred", "mIoU_gt", "PQ", "PQ_scene")


def record(scene: str, row: str, masks: str, seed: int, *scores: float, **more: Any) -> Any:
    """A finished cell: fractions in the order of MEASURES, the same in both matchings."""
    values = dict(zip(MEASURES, scores, strict=True))
    return {
        **{"scene": scene, "row": row, "method": row.split("-")[0], "primitive": "2dgs"},
        **{"masks": masks, "seed": seed, "repair_masks": "off", "state": "done"},
        **{"minutes": 1.0, "peak_MiB": 9.0, "revision": "abc", "machine": "a desk"},
        **{"command": ["train.py", "-m", "/home/me/out/runs/x"], "date": "2026-01-02"},
        **{"scores": {"id": values, "scene": values}, **more},
    }


@pytest.fixture
def records() -> list[Any]:
    return [
        record("a", "iqgs", "exact", 0, 0.90, 0.80, 0.70, 0.60),
        record("a", "iqgs", "exact", 1, 0.94, 0.80, 0.70, 0.60),  # a is 92, not 90 and 94
        record("b", "iqgs", "exact", 0, 0.80, 0.60, 0.50, 0.40),
        record("a", "vote", "exact", 0, 0.91, 0.85, 0.70, 0.60),
        record("b", "vote", "exact", 0, 0.80, 0.61, 0.40, 0.50),
        record("a", "omegas", "exact", 0, 0.50, 0.50, 0.75, 0.50),  # of one scene
        record("a", "oracle", "exact", 0, 0.99, 0.99, 0.99, 0.99),
        record("b", "iqgs", "fresh", 0, 0.50, 0.50, 0.50, 0.50),
    ]


def test_scenes_weigh_the_same_whatever_their_seeds(records: list[Any]) -> None:
    lines = mean_lines(aggregate(records), "scene", ("exact", "fresh"))
    assert lines[0] == ["row", "exact", "fresh"]
    assert lines[2] == ["iqgs", "86.0 70.0 60.0 50.0", "50.0 50.0 50.0 50.0 (1 of 2 scenes)"]
    assert lines[3] == ["vote", "85.5 73.0 55.0 55.0", "-"]
    assert lines[4] == ["omegas", "50.0 50.0 75.0 50.0 (1 of 2 scenes)", "-"]


def test_leads_are_over_common_scenes_and_not_over_bounds(records: list[Any]) -> None:
    (_, _, line) = standing(aggregate(records), "scene", ("exact", "fresh"))
    # PQ: 60 - 55 before the vote, but 70 - 75 behind omegas on the scene that both have.
    assert line == ["exact", "+0.5 (vote)", "-3.0 (vote)", "-5.0 (omegas)", "-5.0 (vote)"]


def test_failed_cells_are_told_and_do_not_count(records: list[Any]) -> None:
    failed = {"state": "failed", "reason": "out of paint"}
    del (broken := record("b", "iqgs", "exact", 1, 0, 0, 0, 0, **failed))["scores"]
    lines = mean_lines(aggregate([*records, broken]), "scene", ("exact",))
    assert lines[2][1] == "86.0 70.0 60.0 50.0"


def test_files_say_what_was_run_and_not_where(records: list[Any], tmp_path: Path) -> None:
    page = write_tables(records, tmp_path, "table1", "rooms: a, b", Path("/home/me/out"))
    assert "a desk" in page and "abc" in page and "2026-01-02" in page
    assert "| a | iqgs | 2dgs | mIoU_pred | id | 92.0 ± 2.8 | - |" in page
    for path in tmp_path.iterdir():
        assert path.suffix == ".png" or "/home/me" not in path.read_text()
    cells = json.loads((tmp_path / "table1.json").read_text())["cells"]
    assert cells[0]["command"][-1] == "OUTPUT/runs/x"
    rows = list(csv.DictReader((tmp_path / "table1.csv").open()))
    assert len(rows) == len(records) * 2 * len(MEASURES)
