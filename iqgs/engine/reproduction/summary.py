# SPDX-License-Identifier: Apache-2.0
"""A table in short: means over scenes, and how far the first row is from the best."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

MEASURES = ("mIoU_pred", "mIoU_gt", "PQ", "PQ_scene")
BOUNDS = ("oracle", "random-decoder")  # rows that compete with nobody
Entry = dict[str, Any]


def means(
    entries: Sequence[Entry], matching: str
) -> dict[tuple[str, str], tuple[list[float], int]]:
    """{(row, masks): means of `MEASURES` over scenes, number of scenes}; a scene is the mean over
    its seeds.
    """
    found: dict[tuple[str, str], list[list[float]]] = {}
    for entry in entries:
        scores = [entry["scores"][matching][measure] for measure in MEASURES]
        if all(score is not None for score in scores):
            key = (entry["row"], entry["masks"])
            found.setdefault(key, []).append([score[0] for score in scores])
    return {
        key: ([statistics.fmean(column) for column in zip(*scenes, strict=True)], len(scenes))
        for key, scenes in found.items()
    }


def mean_lines(entries: Sequence[Entry], matching: str, masks: Sequence[str]) -> list[list[str]]:
    """The cells of a table of means, a line a row; empty where nothing was scored so.

    Means over fewer scenes than the most are marked with their number.
    """
    found = means(entries, matching)
    if not found:
        return []
    most = max(number for _, number in found.values())
    lines = [["row", *masks], ["---"] * (len(masks) + 1)]
    for row in dict.fromkeys(entry["row"] for entry in entries):
        cells = []
        for name in masks:
            scores, number = found.get((row, name), ([], most))
            text = " ".join(f"{score:.1f}" for score in scores) or "-"
            cells.append(text if number == most else f"{text} ({number} of {most} scenes)")
        if set(cells) != {"-"}:
            lines.append([row, *cells])
    return lines


def standing(
    entries: Sequence[Entry], matching: str, masks: Sequence[str], row: str = "iqgs"
) -> list[list[str]]:
    """How far `row` is ahead of the best other row (or behind it: negative), and which that is.

    Rows are compared over the scenes that both have.
    """
    lines = [["masks", *MEASURES], ["---"] * (len(MEASURES) + 1)]
    for name in masks:
        cells = []
        for measure in MEASURES:
            ahead = _leads(entries, matching, name, row, measure)
            if ahead:
                rival = min(ahead, key=lambda other: ahead[other])
                cells.append(f"{ahead[rival]:+.1f} ({rival})")
        if len(cells) == len(MEASURES):
            lines.append([name, *cells])
    return lines if len(lines) > 2 else []


def _leads(
    entries: Sequence[Entry], matching: str, masks: str, row: str, measure: str
) -> dict[str, float]:
    """{other row: mean lead of `row` over the scenes that both have}."""
    values: dict[str, dict[str, float]] = {}
    for entry in entries:
        score = entry["scores"][matching][measure]
        if entry["masks"] == masks and score is not None:
            values.setdefault(entry["row"], {})[entry["scene"]] = score[0]
    own = values.pop(row, {})
    return {
        other: statistics.fmean(own[scene] - scores[scene] for scene in own if scene in scores)
        for other, scores in values.items()
        if other not in BOUNDS and own.keys() & scores.keys()
    }
