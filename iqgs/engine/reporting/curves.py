# SPDX-License-Identifier: Apache-2.0
"""The scalars of a run over its iterations, as drawings in SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iqgs.engine.reporting.html import text

WIDTH, HEIGHT = 290, 130
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 20, 18
LOG_RATIO = 20.0  # a scalar that changes by more than this factor is drawn on a logarithmic axis
FEWEST_POINTS, MOST_POINTS = 4, 400  # of a drawing

FLAT = 1e-3  # share of the value below which a change is drawn as none

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Curves:
    """What log.jsonl holds."""

    values: Mapping[str, Curve]  # name -> (iteration, value), ascending
    stages: Mapping[str, int]  # name -> last iteration


def read_curves(path: Path) -> Curves:
    """Read a log; of an iteration that was repeated the later record counts. None: no curves."""
    values: dict[str, dict[int, float]] = {}
    stages: dict[str, int] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
            iteration = int(record.pop("iteration"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that a kill cut short
        if isinstance(record.get("stage"), str):
            stages[record.pop("stage")] = iteration
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                values.setdefault(name, {})[iteration] = float(value)
    return Curves({name: sorted(points.items()) for name, points in values.items()}, stages)


def charts(curves: Curves) -> str:
    """A drawing for every scalar with enough values for one; the last value of the others."""
    if not curves.values:
        return '<p class="note">This run has no log.jsonl with scalars over time.</p>'
    drawn, few = [], []
    for name, points in curves.values.items():
        if len(points) >= FEWEST_POINTS:
            drawn.append(chart(name, points, curves.stages))
        else:
            few.append(f"{name} {_short(points[-1][1])}")
    return (
        f'<div class="charts">{"".join(drawn)}</div>'
        f'<p class="note">At the end: {text("; ".join(few) or "nothing else")}.</p>'
    )


def chart(name: str, points: Curve, stages: Mapping[str, int]) -> str:
    """One scalar over the iterations; vertical lines end the stages."""
    points = points[:: max(1, -(-len(points) // MOST_POINTS))]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    if high - low < FLAT * abs(high):  # rounding is no trend
        low, high = low - FLAT * abs(high), high + FLAT * abs(high)
    logarithmic = low > 0 and high / low > LOG_RATIO
    scale = math.log if logarithmic else float
    first, last = points[0][0], points[-1][0]

    def x(iteration: float) -> float:
        share = (iteration - first) / max(last - first, 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = (scale(value) - scale(low)) / max(scale(high) - scale(low), 1e-12)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    line = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in points)
    ends = "".join(
        f'<line x1="{x(end):.1f}" x2="{x(end):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
        f'stroke="#bbb" stroke-dasharray="3 3"><title>end of {text(stage)}</title></line>'
        for stage, end in stages.items()
        if first < end < last
    )
    axis = " (log)" if logarithmic else ""
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{text(name)}">'
        f'<text x="2" y="12">{text(name)}{axis}: {_short(values[-1])}</text>'
        f'<text x="2" y="{TOP + 8}">{_short(high)}</text>'
        f'<text x="2" y="{HEIGHT - BOTTOM}">{_short(low)}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 4}">{first}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{last}</text>'
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>'
        f'{ends}<polyline points="{line}" fill="none" stroke="#2b6cb0" stroke-width="1.4"/></svg>'
    )


def heat_map(
    names: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]]
) -> str:
    """Shares [rows][columns] in 0..1 as squares; each says its numbers where a pointer rests."""
    cell, left, top = 15, 130, 110
    parts = []
    for j, column in enumerate(columns):
        place = left + j * cell + 11
        parts.append(
            f'<text x="{place}" y="{top - 4}" transform="rotate(-60 {place} {top - 4})">'
            f"{text(column[:18])}</text>"
        )
    for i, name in enumerate(names):
        middle = top + i * cell + 11
        parts.append(
            f'<text x="{left - 4}" y="{middle}" text-anchor="end">{text(name[:22])}</text>'
        )
        for j, share in enumerate(shares[i]):
            if share < 0.0005:
                continue
            hue = "43,108,176" if columns[j] == name else "190,60,50"
            parts.append(
                f'<rect x="{left + j * cell}" y="{top + i * cell}" width="{cell - 1}" '
                f'height="{cell - 1}" fill="rgba({hue},{min(1.0, 0.08 + share**0.5):.2f})">'
                f"<title>{100 * share:.1f} % of {text(name)} is called {text(columns[j])}</title>"
                "</rect>"
            )
    width, height = left + len(columns) * cell + 60, top + len(names) * cell + 4
    return f'<div class="wide"><svg width="{width}" height="{height}">{"".join(parts)}</svg></div>'


def _short(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
