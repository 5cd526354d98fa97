# SPDX-License-Identifier: Apache-2.0
"""The most memory that training steps take, each in a process of its own.

On a CPU it is the process' resident size, with torch's and the libraries' share, which the column
"before" shows; on a GPU it is what torch has allocated there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from iqgs.engine.stages.protocol import take_step
from tests.benchmarks.options import Options
from tests.benchmarks.scenes import LARGE, QUICK, STANDARD, SceneSize
from tests.benchmarks.tables import Goal, Table, Value
from tests.benchmarks.timing import MIB, Meter
from tests.benchmarks.training_scene import OBJECTS, ROUTES, make_training
from utils.reproducibility import peak_memory_bytes

# The paper's size of picture, with as many splats as the large scene.
PAPER = SceneSize("1558x1039, 1M", 1558, 1039, 1_000_000, 1.36)
SIZES = {size.name: size for size in (QUICK, STANDARD, LARGE, PAPER)}
MOST_GIB = 12.0  # for a step at the paper's size with 300 queries
STEPS = 2  # optimizers make their moments in the first
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Usage:
    """Memory of a stage's steps, MiB."""

    before_mib: float  # scene, splats and stage are there, no step was taken
    peak_mib: float


class Counter(Protocol):
    """Where memory is counted."""

    def held(self) -> float:
        """MiB held now; from here on the peak counts."""

    def peak(self) -> float:
        """Most MiB held since."""


class ResidentSize:
    """Resident size of this process; without Linux' /proc the peak is that of its whole life."""

    def held(self) -> float:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            return self._status("VmRSS")
        except OSError:
            return peak_memory_bytes() / MIB

    def peak(self) -> float:
        try:
            return self._status("VmHWM")
        except OSError:
            return peak_memory_bytes() / MIB

    @staticmethod
    def _status(key: str) -> float:
        found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found is None:
            raise OSError(f"/proc/self/status has no {key}")
        return int(found.group(1)) / 1024


class Allocated:
    """What torch has allocated on the GPU."""

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda

    def held(self) -> float:
        self._cuda.synchronize()
        self._cuda.reset_peak_memory_stats()
        return float(self._cuda.memory_allocated()) / MIB

    def peak(self) -> float:
        self._cuda.synchronize()
        return float(self._cuda.max_memory_allocated()) / MIB


def measure_steps(route: str, size: SceneSize, device: str, counter: Counter) -> Usage:
    """Take a few steps of a route on `device` and count."""
    make, settings = ROUTES[route]
    training = make_training(size, device, **settings)
    assert training.method is not None
    training.method.train()
    stage = make(training)
    before = counter.held()
    for iteration in range(stage.first, stage.first + STEPS):
        take_step(stage, iteration)
    return Usage(before, counter.peak())


def in_own_process(route: str, size: SceneSize, meter: Meter) -> Usage:
    """`measure_steps` where nothing else has left traces. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", route, size.name, meter.kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"a step of {route} at {size.name} on {meter.name}: {last}")
    return Usage(**json.loads(done.stdout.strip().splitlines()[-1]))


def record(route: str, usage: Usage) -> dict[str, Value]:
    """A row of the table."""
    above = usage.peak_mib - usage.before_mib
    return {"name": route, **asdict(usage), "above_mib": above}


def table(size: SceneSize, meter: Meter) -> Table:
    """Every route at one size."""
    usages = [in_own_process(route, size, meter) for route in ROUTES]
    rows = [record(route, usage) for route, usage in zip(ROUTES, usages, strict=True)]
    counted = "torch's allocations" if meter.kind == "cuda" else "resident size of the process"
    notes = [
        f"{STEPS} full steps with SH of degree 3, {OBJECTS} objects; {counted}",
        "one view: stored weights of more views take up to --cache_gb on top",
    ]
    most = max(usage.peak_mib for usage in usages) / 1024
    goals = [Goal("GiB, the hungriest route", most, MOST_GIB, at_least=False)]
    title = f"{size.name} splats, {meter.name}"
    return Table(title, rows, notes, goals if size is PAPER else ())


def run(options: Options) -> list[Table]:
    """The gate's scene and the paper's size."""
    sizes = (QUICK,) if options.quick else (STANDARD, PAPER)
    return [table(size, meter) for meter in options.meters for size in sizes]


def main() -> None:
    """The child's part: one measurement, as JSON on the last line."""
    route, size, kind = sys.argv[1:]
    counter: Counter = Allocated() if kind == "cuda" else ResidentSize()
    print(json.dumps(asdict(measure_steps(route, SIZES[size], kind, counter))))


if __name__ == "__main__":
    main()
