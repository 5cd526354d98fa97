# SPDX-License-Identifier: Apache-2.0
"""The results file: one a machine, named after its hardware, holding the newest of each section."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diff_surfel_rasterization.backends import native_module
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import hardware_name

RESULTS = Path(__file__).parent / "results"
FORMAT = "iqgs-benchmarks-1"


def gpu_name() -> str | None:
    """The name of the GPU that torch would use, None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine_name() -> str:
    """Processor and, where there is one, GPU."""
    return "; ".join(name for name in (hardware_name(), gpu_name()) if name)


def results_path(machine: str) -> Path:
    """Where the results of a machine belong."""
    slug = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    return RESULTS / f"{slug}.json"


def git_revision() -> str | None:
    """The commit that is checked out, with + if files differ from it; None outside git."""
    root = Path(__file__).resolve().parents[2]
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return answers[0] + ("+" if answers[1] else "")


def installed_version(package: str) -> str | None:
    """Version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Neighbours:
    """How many processors other processes kept busy since this was made: what makes wall times and
    gains of threads wrong while processor times stay right."""

    def __init__(self) -> None:
        self._wall, self._all, self._own = time.monotonic(), busy_seconds(), own_seconds()

    def processors(self) -> float | None:
        """Processors on average; None where the system does not tell (/proc/stat)."""
        busy = busy_seconds()
        if busy is None or self._all is None:
            return None
        others = (busy - self._all) - (own_seconds() - self._own)
        return max(0.0, others / max(time.monotonic() - self._wall, 1e-9))


def busy_seconds() -> float | None:
    """Time that all processors of the machine spent working since it was started."""
    try:
        user, nice, system, _, _, *interrupts = map(int, _processor_times().split()[1:8])
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _processor_times() -> str:
    return Path("/proc/stat").read_text().splitlines()[0]


def own_seconds() -> float:
    """Processor time of this process and of those that it started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def describe_run() -> dict[str, Any]:
    """What a section's figures depend on beside the code."""
    native = native_module()
    build = {} if native is None else native.build_info()
    return {
        "hardware": machine_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gsplat": installed_version("gsplat"),
        "instruction_set": build.get("isa"),
        "rasterizer_has_cuda": bool(build.get("cuda", False)),
        "load_average_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "revision": git_revision(),
    }


def read_results(path: Path) -> dict[str, Any]:
    """What a results file holds so far; empty where there is none of this format."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found.get("format") == FORMAT else {}


def write_section(path: Path, key: str, run: dict[str, Any], tables: Sequence[Table]) -> None:
    """Put a section's newest figures into the file; the other sections stay."""
    results = read_results(path) or {"format": FORMAT, "sections": {}}
    results["hardware"] = run["hardware"]
    results["sections"][key] = {**run, "tables": [table.as_record() for table in tables]}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")
