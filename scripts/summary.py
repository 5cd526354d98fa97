#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Print one line per run of a folder from its results.json, and the mean.

summary.py OUT_ROOT                     every run below OUT_ROOT
summary.py OUT_ROOT scene=STATE...      these runs, with a word about each (the batch scripts)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

COLUMNS = ("PSNR", "SSIM", "mIoU_pred", "mIoU_gt", "PQ")
FRACTIONS = {"mIoU_pred", "mIoU_gt", "PQ"}  # printed as percent


def newest_scores(path: Path) -> tuple[str, Mapping[str, object]]:
    """Split and scores of the newest iteration in a results.json; test before train."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        ours = [name for name in results if name.startswith("ours_")]  # not the vote beside them
        newest = max(ours, key=lambda name: int(name.rsplit("_", 1)[1]))
        split = "test" if "test" in results[newest] else "train"
        return split, results[newest][split]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return "-", {}


def row(name: str, state: str, split: str, scores: Mapping[str, object]) -> list[str]:
    """The cells of one run; a score that is not there is a dash."""
    cells = [name, state, split]
    for column in COLUMNS:
        value = scores.get(column)
        if not isinstance(value, int | float):
            cells.append("-")
        else:
            cells.append(f"{100 * value:.2f}" if column in FRACTIONS else f"{value:.3f}")
    return cells


def mean_scores(all_scores: list[Mapping[str, object]]) -> dict[str, object]:
    """Mean of each column over the runs that have it."""
    means: dict[str, object] = {}
    for column in COLUMNS:
        values = [float(v) for s in all_scores if isinstance(v := s.get(column), int | float)]
        if values:
            means[column] = sum(values) / len(values)
    return means


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    root = Path(arguments[0])
    states = dict(argument.split("=", 1) for argument in arguments[1:])
    if not states:
        states = {path.parent.name: "" for path in sorted(root.glob("*/results.json"))}
    if not states:
        print(f"summary.py: {root} holds no run with a results.json", file=sys.stderr)
        return 2
    table = [["scene", "state", "split", *COLUMNS]]
    found = []
    for name, state in states.items():
        split, scores = newest_scores(root / name / "results.json")
        table.append(row(name, state, split, scores))
        found.append(scores)
    table.append(row("mean", f"of {sum(map(bool, found))}", "", mean_scores(found)))
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
