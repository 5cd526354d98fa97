# SPDX-License-Identifier: Apache-2.0
"""Results of runs: files beside the run, and one table in the form that a reader wants.

Stored values are fractions; tables for people show percent with one decimal, PSNR in dB. A run
without results is a FAILED row, never an absent one.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iqgs.evaluation.views import ObjectScore
from utils.errors import DataError
from utils.storage import write_text

PathLike = str | os.PathLike[str]
Results = Mapping[str, Any]
Block = tuple[list[str], list[list[str]]]

# What a score depends on; always printed above it.
SETTINGS = (
    "scene",
    "method",
    "split",
    "ground_truth",
    "matching",
    "filter",
    "zero_label",
    "min_area",
    "views",
    "gt_instances",
    "pred_instances",
    "missing",
)
_NOT_SCORES = (*SETTINGS, "run", "error", "intervals", "protocol")
_COLUMNS_PER_BLOCK = 9
_ABSENT = "-"


def write_results(path: PathLike, method: str, split: str, values: Results) -> None:
    """Merge `values` into results.json as {method: {split: values}}; method such as "ours_2000".

    Other methods, splits and scores in the file stay. Values that are not finite become null.
    DataError if the file exists and is not such an object.
    """
    stored = _read_object(Path(path)) if Path(path).exists() else {}
    _child(_child(stored, method, path), split, path).update(_plain(dict(values)))
    write_text(path, json.dumps(stored, indent=2, allow_nan=False) + "\n")


def write_per_view(
    path: PathLike, method: str, split: str, per_view: Mapping[str, Results]
) -> None:
    """Merge view name -> scores into per_view.json as {method: {split: {score: {view: value}}}}."""
    by_score: dict[str, dict[str, Any]] = {}
    for view, scores in per_view.items():
        for key, value in scores.items():
            by_score.setdefault(key, {})[view] = value
    write_results(path, method, split, by_score)


def read_results(path: PathLike, split: str, method: str | None = None) -> dict[str, Any]:
    """The values of one split from results.json, with "method" and "split" added.

    method None takes the highest iteration. DataError if the file or the entry is not there.
    """
    stored = _read_object(Path(path))
    if method is None:
        present = [key for key, splits in stored.items() if isinstance(splits, dict)]
        if not present:
            raise DataError(f"{path} holds no method: run evaluate.py on this run")
        method = max(present, key=_iteration)
    splits = stored.get(method)
    values = splits.get(split) if isinstance(splits, dict) else None
    if not isinstance(values, dict):
        raise DataError(f"{path} has no results of {method} on {split}: run evaluate.py first")
    return {"method": method, "split": split, **values}


def _iteration(method: str) -> int:
    digits = method.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


def _read_object(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run evaluate.py on this run") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable as JSON ({error}): remove it and rerun") from error
    if not isinstance(stored, dict):
        raise DataError(f"{path} does not hold a JSON object: remove it and rerun evaluate.py")
    return stored


def _child(parent: dict[str, Any], key: str, path: PathLike) -> dict[str, Any]:
    child = parent.setdefault(key, {})
    if not isinstance(child, dict):
        raise DataError(f"{path}: entry {key!r} is not an object: remove it and rerun evaluate.py")
    return child


def _plain(value: Any) -> Any:
    """The value in JSON's own types, null for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class ResultTable:
    """Rows of results: "run", the SETTINGS, scores, optionally "intervals" (score -> low, high).

    A row with "error" could not be evaluated. primary: the scores shown first, in order.
    """

    rows: tuple[Results, ...]
    primary: tuple[str, ...]

    @classmethod
    def from_runs(cls, runs: Iterable[PathLike], split: str, primary: Sequence[str]) -> ResultTable:
        """Read `<run>/results.json` of every run; an unreadable one becomes a FAILED row."""
        rows: list[Results] = []
        for run in runs:
            try:
                values = read_results(Path(run) / "results.json", split)
            except DataError as error:
                values = {"split": split, "error": str(error)}
            rows.append({"run": str(run), "scene": Path(run).name, **values})
        return cls(tuple(rows), tuple(primary))

    @property
    def failed(self) -> bool:
        """Whether any run could not be evaluated (the command's exit code is then 1)."""
        return any("error" in row for row in self.rows)

    def scores(self) -> list[str]:
        """Names of all scores, the primary ones first and present even where no run has them."""
        names = dict.fromkeys(self.primary)
        for row in self.rows:
            names |= dict.fromkeys(key for key in row if key not in _NOT_SCORES)
        return list(names)

    def text(self) -> str:
        """For the console: settings first, then the scores in blocks, then why runs failed."""
        blocks = [
            _aligned(["run", *SETTINGS], [self._settings(row) for row in self.rows]),
            "Percent unless marked; in brackets the 95 % bootstrap interval.",
        ]
        names = self.scores()
        for start in range(0, len(names), _COLUMNS_PER_BLOCK):
            chosen = names[start : start + _COLUMNS_PER_BLOCK]
            cells = [[_name(row), *_score_cells(row, chosen)] for row in self.rows]
            blocks.append(_aligned(["run", *map(_title, chosen)], cells))
        reasons = [f"FAILED {_name(row)}: {row['error']}" for row in self.rows if "error" in row]
        return "\n\n".join(blocks + (["\n".join(reasons)] if reasons else [])) + "\n"

    def markdown(self) -> str:
        """Settings and scores as two tables of GitHub's Markdown."""

        def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
            lines = [head, ["---"] * len(head), *rows]
            return "\n".join(
                "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |"
                for line in lines
            )

        settings, scores = self.blocks()
        return f"{table(*settings)}\n\n{table(*scores)}\n"

    def blocks(self) -> tuple[Block, Block]:
        """(head, rows) of the settings and of all scores, as texts for people."""
        settings = [self._settings(row) for row in self.rows]
        names = self.scores()
        cells = [[_name(row), *_score_cells(row, names)] for row in self.rows]
        return (["run", *SETTINGS], settings), (["run", *map(_title, names)], cells)

    def latex(self) -> str:
        """The primary scores as a booktabs tabular; the settings stand in comments above it."""
        lines = [
            "% " + "; ".join(f"{k}: {v}" for k, v in zip(["run", *SETTINGS], cells, strict=True))
            for cells in map(self._settings, self.rows)
        ]
        lines += [f"\\begin{{tabular}}{{l{'r' * len(self.primary)}}}", "\\toprule"]
        head = ["run", *map(_title, self.primary)]
        body = [[_name(row), *_score_cells(row, self.primary)] for row in self.rows]
        rows = [" & ".join(map(_latex, cells)) + r" \\" for cells in (head, *body)]
        return "\n".join(
            [*lines, rows[0], "\\midrule", *rows[1:], "\\bottomrule", "\\end{tabular}\n"]
        )

    def json(self) -> str:
        """The rows as they are, fractions in full precision."""
        return json.dumps(_plain({"rows": self.rows}), indent=2, allow_nan=False) + "\n"

    def csv(self) -> str:
        """One line a run, fractions in full precision; intervals as `<score>_low` and `_high`."""
        names = self.scores()
        bounds = sorted({key for row in self.rows for key in row.get("intervals") or {}})
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        ends = [f"{key}_{end}" for key in bounds for end in ("low", "high")]
        writer.writerow(["run", *SETTINGS, *names, *ends, "error"])
        for row in self.rows:
            plain = _plain(row)
            intervals = plain.get("intervals") or {}
            limits = [end for key in bounds for end in intervals.get(key, (None, None))]
            cells = [plain.get(key) for key in ("run", *SETTINGS, *names)]
            writer.writerow([*cells, *limits, plain.get("error")])
        return stream.getvalue()

    def write(self, path: PathLike) -> None:
        """Write in the form that the suffix names; ValueError for an unknown one."""
        forms: dict[str, Callable[[], str]] = {
            ".txt": self.text,
            ".md": self.markdown,
            ".tex": self.latex,
            ".json": self.json,
            ".csv": self.csv,
        }
        form = forms.get(Path(path).suffix)
        if form is None:
            raise ValueError(f"{path}: a table is written as one of {', '.join(forms)}")
        write_text(path, form())

    def _settings(self, row: Results) -> list[str]:
        return [_name(row), *(_cell("setting", row.get(key)) for key in SETTINGS)]


def object_table(objects: Sequence[ObjectScore]) -> str:
    """The per-object scores for the console, worst first."""
    rows = [asdict(row) for row in sorted(objects, key=lambda row: row.iou)]
    head = ["id", "name", "iou", "boundary_iou", "views", "found_views", "area", "switches"]
    return _aligned(head, [[_cell(key, row[key]) for key in head] for row in rows]) + "\n"


def _name(row: Results) -> str:
    return str(row.get("run") or row.get("scene") or _ABSENT)


def _title(score: str) -> str:
    return f"{score} (dB)" if score.startswith("PSNR") else score


def _score_cells(row: Results, names: Sequence[str]) -> list[str]:
    if "error" in row:
        return ["FAILED"] * len(names)
    intervals = row.get("intervals") or {}
    cells = []
    for name in names:
        cell = _cell(name, row.get(name))
        if name in intervals and cell != _ABSENT:
            cell += " [{} {}]".format(*(_cell(name, end) for end in intervals[name]))
        cells.append(cell)
    return cells


def _cell(key: str, value: Any) -> str:
    """A value for people: percent for fractions, except where the custom is another."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _ABSENT
    if not isinstance(value, float):
        return str(value)
    if key.startswith("PSNR") or key == "id_switches":
        return f"{value:.2f}"
    if key.startswith(("SSIM", "LPIPS")):
        return f"{value:.3f}"
    return f"{100 * value:.1f}"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _latex(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text
