# SPDX-License-Identifier: Apache-2.0
"""Whole commands as processes: start-up, imports, opening a run, pictures and scores.

What a user waits for, with everything that no other section sees: imports, reading and writing
files. The scene is ray-cast and the run is trained here. With another checkout given both take
turns, and a ratio is that of a pair that ran one after the other, so that what else the machine
does falls on both.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.checkouts import Checkout, CommandFailed, Spent
from tests.benchmarks.options import Options
from tests.benchmarks.tables import Table, Value, quotient

MOST_REPEATS = 7
# Each package with what it needs below it; torch alone is what all of them start with.
PACKAGES = (
    "torch",
    "diff_surfel_rasterization",
    "arguments",
    "scene.dataset",
    "gaussian_renderer",
    "iqgs.engine.training",
)
OPEN = """
import sys
try:
    from iqgs.engine.opening import open_run
except ImportError:  # another checkout, of version 0.1
    from iqgs.engine.checkpoint import load_run as open_run
open_run(sys.argv[1], -1)
"""
SCENE = ("--width", "192", "--height", "144", "--views", "20", "--samples", "1")
QUICK_SCENE = ("--width", "48", "--height", "36", "--views", "6", "--samples", "1")
STEPS, QUICK_STEPS = 200, 10


@dataclass(frozen=True)
class Command:
    """Words after `python`; {run} stands for the folder of the checkout's own run."""

    name: str
    words: Sequence[str]

    def words_for(self, run: Path) -> list[str]:
        return [word.replace("{run}", str(run)) for word in self.words]


START_UP = (
    Command("python", ("-c", "pass")),
    *(Command(f"import {name}", ("-c", f"import {name}")) for name in PACKAGES),
    *(
        Command(f"{door} --help", (door, "--help"))
        for door in ("train.py", "render.py", "evaluate.py")
    ),
)
ON_A_RUN = (
    Command("open a run", ("-c", OPEN, "{run}")),
    Command("render.py, held-out views", ("render.py", "-m", "{run}", "--skip_train", "--quiet")),
    Command("evaluate.py, held-out views", ("evaluate.py", "-m", "{run}")),
)


@dataclass
class Series:
    """What one command took in one checkout, turn by turn."""

    spent: list[Spent] = field(default_factory=list)
    failure: str | None = None

    def add(self, checkout: Checkout, words: Sequence[str]) -> None:
        """One more turn; a command that has failed is not tried again."""
        if self.failure is not None:
            return
        try:
            self.spent.append(checkout.run(words))
        except CommandFailed as failure:
            self.failure = str(failure)


def measure(
    commands: Sequence[Command],
    checkouts: Sequence[tuple[Checkout, Path]],
    repeats: int,
    warm_ups: int,
) -> list[list[Series]]:
    """[command][checkout]; who begins changes from turn to turn. Turns that fill the disk's cache
    come first and do not count.

    Raises CommandFailed where a command of the first checkout fails.
    """
    found = [[Series() for _ in checkouts] for _ in commands]
    order = list(range(len(checkouts)))
    for turn in range(warm_ups + repeats):
        for command, series in zip(commands, found, strict=True):
            for index in order if turn % 2 else reversed(order):
                checkout, run = checkouts[index]
                series[index].add(checkout, command.words_for(run))
            if series[0].failure is not None:
                raise CommandFailed(series[0].failure)
        if turn < warm_ups:
            for one in (one for series in found for one in series):
                one.spent.clear()
    return found


def figures(series: Series) -> dict[str, Value]:
    """Least and median, wall and processor time; None for a command that failed."""
    walls = [spent.wall_ms for spent in series.spent]
    cpus = [spent.cpu_ms for spent in series.spent]
    failed = series.failure is not None or not walls
    return {
        "min_wall_ms": None if failed else min(walls),
        "wall_ms": None if failed else statistics.median(walls),
        "min_cpu_ms": None if failed else min(cpus),
        "cpu_ms": None if failed else statistics.median(cpus),
    }


def ratio(ours: Series, theirs: Series, clock: str) -> float | None:
    """How many times this checkout's time the other one took: the median over the pairs."""
    if theirs.failure is not None:
        return None
    pairs = zip(ours.spent, theirs.spent, strict=True)
    quotients = [quotient(getattr(b, clock), getattr(a, clock)) for a, b in pairs]
    return statistics.median(value for value in quotients if value is not None)


def record(command: Command, series: Sequence[Series]) -> dict[str, Value]:
    """A row of the table."""
    row: dict[str, Value] = {"name": command.name, "repeats": len(series[0].spent)}
    row |= figures(series[0])
    if len(series) > 1:
        row |= {f"other_{key}": value for key, value in figures(series[1]).items()}
        row["other_times_wall"] = ratio(*series, "wall_ms")
        row["other_times_cpu"] = ratio(*series, "cpu_ms")
    return row


def make_run(checkout: Checkout, scene: Path, run: Path, steps: int) -> None:
    """Train a small run with the checkout's own program."""
    lengths = ("--iterations", str(steps), "--instance_iterations", str(steps))
    words = ("train.py", "-s", str(scene), "-m", str(run), "--eval", "--quiet", *lengths)
    checkout.run(words)


def notes(checkouts: Sequence[Checkout], found: Sequence[Sequence[Series]]) -> list[str]:
    """What ran where, and what failed."""
    said = ["a process each, with the processor time of those that it starts"]
    if len(checkouts) > 1:
        shared = checkouts[0].python == checkouts[1].python
        whose = "our Python with our installed rasterizer" if shared else "its own Python"
        said.append(f"other: {checkouts[1].root.name}, by {whose}; its times over ours, by pairs")
    return said + [one.failure for series in found for one in series if one.failure]


def run(options: Options) -> list[Table]:
    """Start-up, and commands on a run."""
    if options.meter("cpu") is None:
        return []
    checkouts = [Checkout.this()]
    if options.other is not None:
        checkouts.append(Checkout.other(options.other))
    repeats, warm_ups = min(options.repeats, MOST_REPEATS), 0 if options.quick else 1
    steps, size = (QUICK_STEPS, QUICK_SCENE) if options.quick else (STEPS, SCENE)
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene"
        checkouts[0].run(["scripts/make_synthetic_scene.py", str(scene), *size])
        places = [(checkout, Path(folder) / checkout.name) for checkout in checkouts]
        for checkout, place in places:
            make_run(checkout, scene, place, steps)
        tables = []
        for title, commands in (("start-up", START_UP), ("on a small run", ON_A_RUN)):
            found = measure(commands, places, repeats, warm_ups)
            rows = [record(*pair) for pair in zip(commands, found, strict=True)]
            tables.append(Table(f"commands: {title}", rows, notes(checkouts, found)))
    return tables
