# SPDX-License-Identifier: Apache-2.0
"""Tables of a benchmark: rows of plain values, goals beside them, as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.benchmarks.timing import Row

Value = str | int | float | None
HEADS = {
    "name": "",
    "forward_ms": "fwd ms",
    "backward_ms": "bwd ms",
    "forward_cpu_ms": "cpu fwd",
    "backward_cpu_ms": "cpu bwd",
    "peak_mib": "peak MiB",
    "ratio_forward": "× fwd",
    "ratio_backward": "× bwd",
    "ratio": "× both",
    "contributions_per_pixel": "contr./px",
    "ns_per_contribution": "ns/contr.",
    "forward_gain": "gain fwd",
    "backward_gain": "gain bwd",
    "min_wall_ms": "min wall",
    "min_cpu_ms": "min cpu",
    "other_min_wall_ms": "other: min wall",
    "other_wall_ms": "wall",
    "other_min_cpu_ms": "min cpu",
    "other_cpu_ms": "cpu",
    "other_times_wall": "× wall",
    "other_times_cpu": "× cpu",
}


@dataclass(frozen=True)
class Goal:
    """A figure that has to reach a bound. Judged only in the scene that the bound is about."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "reached" if self.reached else "NOT reached"
        return f"{self.what}: {_text(self.value)} (goal {sign} {_text(self.bound)}, {verdict})"


@dataclass(frozen=True)
class Table:
    """Rows with the same keys in the same order; `notes` say what the columns cannot.

    `machine`: what the hardware can do at best, a line each; without it a ratio says little.
    """

    title: str
    rows: Sequence[dict[str, Value]]
    notes: Sequence[str] = ()
    goals: Sequence[Goal] = field(default=())
    machine: Sequence[str] = ()

    def as_text(self) -> str:
        """For a terminal."""
        lines = [self.title, *(f"  {line}" for line in self.machine)]
        if self.rows:
            cells = [list(map(_head, self.rows[0])), *[_cells(row) for row in self.rows]]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            lines += ["  " + _aligned(line, widths) for line in cells]
        return "\n".join([*lines, *(f"  {line}" for line in (*self.notes, *self.goals))])

    def as_markdown(self) -> str:
        """For a document."""
        lines = [f"**{self.title}**", *self.machine, ""]
        if self.rows:
            heads = list(map(_head, self.rows[0]))
            lines += [_piped(heads), "|" + "---|" * len(heads)]
            lines += [_piped(_cells(row)) for row in self.rows]
            lines.append("")
        return "\n".join([*lines, *(f"- {line}" for line in (*self.notes, *self.goals)), ""])

    def as_record(self) -> dict[str, Any]:
        """For the results file."""
        record: dict[str, Any] = {"title": self.title}
        if self.machine:
            record["machine"] = list(self.machine)
        record["rows"] = list(self.rows)
        if self.notes:
            record["notes"] = list(self.notes)
        if self.goals:
            record["goals"] = [{**asdict(goal), "reached": goal.reached} for goal in self.goals]
        return record


def timing_table(
    title: str,
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    goals: Sequence[Goal] = (),
    ours: Row | None = None,
) -> Table:
    """A table of times with ratios: how many times the cost of `ours` (the first row) each has.

    Without any row it holds the notes only.
    """
    base = ours or (rows[0] if rows else None)
    with_peak = any(row.peak_mib is not None for row in rows)
    records = []
    for row in rows:
        assert base is not None
        record = asdict(row)
        if not with_peak:
            del record["peak_mib"]
        if all(other.device == rows[0].device for other in rows):
            del record["device"]
        (forward, backward), (own_forward, own_backward) = row.cost(), base.cost()
        record["ratio_forward"] = quotient(forward, own_forward)
        record["ratio_backward"] = quotient(backward, own_backward)
        record["ratio"] = quotient(forward + backward, own_forward + own_backward)
        records.append(record)
    return Table(title, records, notes, goals)


def quotient(value: float, base: float) -> float | None:
    """value / base, None where there is nothing to divide by."""
    return value / base if base > 0 else None


def _head(key: str) -> str:
    return HEADS.get(key, key.replace("_", " "))


def _text(value: Value) -> str:
    """Three digits that matter."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 4
    return f"{value:.{decimals}f}"


def _cells(row: dict[str, Value]) -> list[str]:
    return [_text(value) for value in row.values()]


def _aligned(cells: list[str], widths: list[int]) -> str:
    """First column to the left, the others to the right."""
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()


def _piped(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
