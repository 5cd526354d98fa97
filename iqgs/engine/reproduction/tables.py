# SPDX-License-Identifier: Apache-2.0
"""Records of cells to tables: Markdown, LaTeX, CSV, JSON and a plot."""

from __future__ import annotations

import csv
import io
import json
import logging
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from arguments.reproduction import MASKS
from iqgs.engine.reproduction.rows import paper_numbers
from iqgs.engine.reproduction.summary import MEASURES, mean_lines, standing
from utils.storage import write_text

log = logging.getLogger(__name__)
MATCHINGS = ("id", "scene")
Record = Mapping[str, Any]


def spread(values: Iterable[float]) -> tuple[float, float | None] | None:
    """Mean and sample deviation over seeds; no deviation of one value, nothing of none."""
    found = list(values)
    if not found:
        return None
    return statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None


def row_of(record: Record) -> str:
    """The row that a record belongs to; older records name their method only."""
    return str(record.get("row") or record["method"])


def aggregate(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One entry per scene, row, primitive and kind of masks, over its seeds.

    `scores`: {matching: {measure: (mean, deviation)}} in percent.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        key = (record["scene"], row_of(record), record["primitive"], record["masks"])
        groups.setdefault(key, []).append(record)
    return [_entry(key, group) for key, group in groups.items()]


def _entry(key: tuple[str, ...], group: list[Record]) -> dict[str, Any]:
    done = [record for record in group if record["state"] == "done"]
    failed = [record for record in group if record["state"] != "done"]
    scores = {
        matching: {
            measure: spread(
                100 * record["scores"][matching][measure]
                for record in done
                if measure in record["scores"].get(matching, {})
            )
            for measure in MEASURES
        }
        for matching in MATCHINGS
    }
    return {
        **dict(zip(("scene", "row", "primitive", "masks"), key, strict=True)),
        "repair_masks": group[0]["repair_masks"],
        "seeds": len(done),
        "failed": {str(record["seed"]): record["reason"] for record in failed},
        "scores": scores,
        "minutes": spread(record["minutes"] for record in done),
        "cpu_minutes": spread(record["cpu_minutes"] for record in done if "cpu_minutes" in record),
        "peak_MiB": max((record["peak_MiB"] for record in done), default=None),
    }


def in_words(value: tuple[float, float | None] | None, plus: str) -> str:
    """'51.2', '51.2 ± 0.4' or a dash."""
    if value is None:
        return "-"
    return f"{value[0]:.1f}" + ("" if value[1] is None else f" {plus} {value[1]:.1f}")


def _lines(entries: list[dict[str, Any]], table: str, plus: str) -> list[list[str]]:
    """The cells of the printed table: a line per scene, row, measure and matching."""
    masks = [name for name in MASKS if any(entry["masks"] == name for entry in entries)]
    head = ["scene", "row", "primitive", "measure (%)", "matching", *masks, "paper"]
    keys = dict.fromkeys((e["scene"], e["row"], e["primitive"]) for e in entries)
    lines = [head]
    for scene, method, primitive in keys:
        own = {
            e["masks"]: e
            for e in entries
            if (e["scene"], e["row"], e["primitive"]) == (scene, method, primitive)
        }
        for measure in MEASURES:
            for matching in MATCHINGS:
                values = [_printed(own.get(name), measure, matching, plus) for name in masks]
                if set(values) == {"-"}:
                    continue
                paper = ""
                if (measure, matching) == ("mIoU_pred", MATCHINGS[-1]):
                    paper = _paper(table, scene, method, primitive)
                lines.append([scene, method, primitive, measure, matching, *values, paper])
    return lines


def _printed(entry: dict[str, Any] | None, measure: str, matching: str, plus: str) -> str:
    if entry is None:
        return "-"
    if not entry["seeds"]:
        return "FAILED"
    text = in_words(entry["scores"][matching][measure], plus)
    lost = len(entry["failed"])
    return text if not lost or text == "-" else f"{text} ({lost} of its seeds FAILED)"


def _paper(table: str, scene: str, method: str, primitive: str) -> str:
    """The paper's own number, on the same scene where it has it."""
    numbers = paper_numbers(table, method, primitive)
    if scene in numbers:
        return f"{numbers[scene]:.2f}"
    return "; ".join(f"{name} {value:.2f}" for name, value in numbers.items())


def markdown(entries: list[dict[str, Any]], table: str, heading: str) -> str:
    """The table, what it cost, and what failed, as a page."""
    head, *rest = _lines(entries, table, "±")
    rows = [head, ["---"] * len(head), *rest]
    costs = [
        ["scene", "row", "masks", "repair_masks", "seeds", "minutes", "CPU minutes", "peak MiB"]
    ]
    costs.append(["---"] * len(costs[0]))
    for entry in entries:
        peak = "-" if entry["peak_MiB"] is None else f"{entry['peak_MiB']:.0f}"
        told = [entry[key] for key in ("scene", "row", "masks", "repair_masks")]
        spent = [in_words(entry[key], "±") for key in ("minutes", "cpu_minutes")]
        costs.append([*told, str(entry["seeds"]), *spent, peak])
    failed = [
        f"- {entry['scene']}, {entry['row']}, {entry['masks']}, seed {seed}: FAILED: {reason}"
        for entry in entries
        for seed, reason in entry["failed"].items()
    ]
    parts = [heading, *_in_short(entries, table), "## All numbers", _pipes(rows)]
    parts += ["## Cost of a cell", _pipes(costs), "\n".join(failed)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _in_short(entries: list[dict[str, Any]], table: str) -> list[str]:
    masks = [name for name in MASKS if any(entry["masks"] == name for entry in entries)]
    parts = []
    for matching in reversed(MATCHINGS):
        told = f"{' / '.join(MEASURES)} in percent, mean over scenes, {matching} matching"
        parts += (
            [f"## {told}", _pipes(lines)] if (lines := mean_lines(entries, matching, masks)) else []
        )
        lines = standing(entries, matching, masks) if table == "table1" else []
        lead = f"Points by which `iqgs` leads the best other row ({matching} matching):"
        parts += [lead, _pipes(lines)] if lines else []
    return parts


def _pipes(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def latex(entries: list[dict[str, Any]], table: str) -> str:
    """The same rows as a tabular."""
    escape = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})
    rows = [
        " & ".join(cell.translate(escape) for cell in line) + r" \\"
        for line in _lines(entries, table, r"$\pm$")
    ]
    columns = "l" * len(_lines(entries, table, "")[0])
    body = "\n".join([rows[0], r"\hline", *rows[1:]])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def comma_separated(records: Iterable[Record]) -> str:
    """One line per cell, matching and measure (fractions, not percent)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    told = [
        *[
            "scene",
            "row",
            "method",
            "primitive",
            "masks",
            "repair_masks",
            "seed",
            "state",
            "revision",
        ]
    ]
    writer.writerow([*told, "minutes", "peak_MiB", "matching", "measure", "value", "reason"])
    for record in records:
        first = [row_of(record) if key == "row" else record[key] for key in told]
        cost = [record.get("minutes", ""), record.get("peak_MiB", "")]
        if record["state"] != "done":
            writer.writerow([*first, *cost, "", "", "", record["reason"]])
            continue
        for matching, scores in record["scores"].items():
            for measure in MEASURES:
                writer.writerow([*first, *cost, matching, measure, scores.get(measure, ""), ""])
    return stream.getvalue()


def plot(entries: list[dict[str, Any]], path: Path) -> bool:
    """Bars of mIoU_gt (scene matching), the mean over scenes; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no plot: matplotlib is not installed; run pip install matplotlib")
        return False
    methods = list(dict.fromkeys(entry["row"] for entry in entries))
    masks = [name for name in MASKS if any(entry["masks"] == name for entry in entries)]
    figure = Figure(figsize=(2 + 0.9 * len(methods), 4))
    axes = figure.subplots()
    for number, name in enumerate(masks):
        places, heights = [], []
        for place, method in enumerate(methods):
            found = [e for e in entries if (e["row"], e["masks"]) == (method, name)]
            values = [e["scores"]["scene"]["mIoU_gt"] for e in found]
            mean = spread(value[0] for value in values if value is not None)
            if mean is not None:
                places.append(place + number * 0.8 / len(masks))
                heights.append(mean[0])
        axes.bar(places, heights, 0.8 / len(masks), align="edge", label=name)
    axes.set_xticks([place + 0.4 for place in range(len(methods))], methods, rotation=30)
    axes.set_ylabel("mIoU_gt (%), scene matching")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    return True


def write_tables(
    records: list[dict[str, Any]], folder: Path, table: str, data: str, root: Path
) -> str:
    """Write all forms of a table into `folder`; returns the Markdown.

    `root`: the folder of all runs, which commands name as OUTPUT.
    """
    entries = aggregate(records)
    revisions = ", ".join(sorted({record["revision"] for record in records}))
    machines = "; ".join(sorted({record["machine"] for record in records}))
    dates = ", ".join(sorted({record.get("date", "") for record in records}))
    heading = (
        f"# {table} on {data}\n\nMean ± sample deviation over seeds; held-out views, or training "
        "views where the data has no other masks (README). The last column is mIoU on the paper's "
        f"data and with its masks, from the paper.\n\nRevision {revisions}; {machines}; {dates}."
    )
    page = markdown(entries, table, heading)
    write_text(folder / f"{table}.md", page)
    write_text(folder / f"{table}.tex", latex(entries, table))
    write_text(folder / f"{table}.csv", comma_separated(records))
    cells = json.dumps({"cells": records}, indent=1).replace(str(root), "OUTPUT")
    write_text(folder / f"{table}.json", cells + "\n")
    plot(entries, folder / f"{table}.png")
    return page
