# SPDX-License-Identifier: Apache-2.0
"""The report of evaluated runs as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arguments.evaluation import BESIDE_RUN
from iqgs.engine.reporting.html import page, table, text
from iqgs.evaluation.report import ResultTable
from utils.errors import UserError
from utils.storage import write_text

NAME = "report.html"


def report_path(wanted: str, runs: Sequence[str]) -> Path | None:
    """Where the report goes: `wanted`, or for BESIDE_RUN the folder of the first run that there is;
    None without one. UserError for a folder.
    """
    if wanted != BESIDE_RUN:
        path = Path(wanted)
    else:
        there = [Path(run) for run in runs if Path(run).is_dir()]
        if not there:
            return None
        path = there[0] / NAME
    if path.is_dir():
        raise UserError(f"--report {path} is a folder; name the file to write")
    return path


def write_report(path: Path, results: ResultTable, sections: Sequence[str]) -> None:
    """The table of all runs, then a section each."""
    settings, scores = results.blocks()
    failed = [row for row in results.rows if "error" in row]
    reasons = "".join(
        f'<p class="failed">FAILED {text(row["run"])}: {text(row["error"])}</p>' for row in failed
    )
    note = "Percent unless marked; in brackets the 95 % bootstrap interval."
    body = [table(*settings), f'<p class="note">{note}</p>', table(*scores), reasons, *sections]
    names = ", ".join(dict.fromkeys(str(row.get("scene", "")) for row in results.rows))
    write_text(path, page(f"Evaluation: {names}", "\n".join(body)))
