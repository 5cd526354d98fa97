# SPDX-License-Identifier: Apache-2.0
"""How long the CUDA kernels take, one by one: medians between two events round every launch.

`IQGS_TIMES=1` before any command writes the table to standard error when it ends; `timed_kernels`
does it for a part of a program. A kernel that the host launches more slowly than the device runs it
reads too long, by what the launch takes (some microseconds): queue enough work, or look at the long
kernels alone. Off, a launch costs nothing more.
"""

from __future__ import annotations

import atexit
import logging
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .operators import operators

SWITCH = "IQGS_TIMES"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KernelTime:
    """All launches of one kernel, milliseconds."""

    name: str
    launches: int
    median_ms: float
    least_ms: float
    total_ms: float


def take_times(of: Any) -> list[KernelTime]:
    """What `of`, the operators, have timed since the last call; what took longest comes first."""
    rows = []
    for name, times in zip(*of.take_kernel_times(), strict=True):
        each = times.tolist()
        rows.append(KernelTime(name, len(each), statistics.median(each), min(each), sum(each)))
    return sorted(rows, key=lambda row: -row.total_ms)


@contextmanager
def timed_kernels() -> Iterator[list[KernelTime]]:
    """Times the CUDA kernels within; the list is filled at the end.

    Raises:
        RuntimeError: the library has no CUDA kernels.
    """
    of = operators()
    if not hasattr(of, "take_kernel_times"):
        raise RuntimeError("timed_kernels: the library is built without CUDA kernels")
    found: list[KernelTime] = []
    of.take_kernel_times()
    of.time_kernels(True)
    try:
        yield found
    finally:
        of.time_kernels(False)
        found += take_times(of)


def as_text(times: Sequence[KernelTime]) -> str:
    """A line a kernel."""
    lines = [f"{'kernel':<24} {'launches':>8} {'median ms':>10} {'least ms':>10} {'total ms':>10}"]
    lines += [
        f"{t.name:<24} {t.launches:>8} {t.median_ms:>10.4f} {t.least_ms:>10.4f} {t.total_ms:>10.2f}"
        for t in times
    ]
    return "\n".join(lines)


def _report(of: Any) -> None:
    sys.stderr.write(f"{SWITCH}=1: times of the CUDA kernels\n{as_text(take_times(of))}\n")


def obey_switch(environment: Mapping[str, str] = os.environ) -> None:
    """Where IQGS_TIMES=1 is set: time all kernels of this process, and report when it ends."""
    if environment.get(SWITCH) != "1":
        return
    of = operators()
    if not hasattr(of, "take_kernel_times"):
        _log.warning("%s=1: the library is built without CUDA kernels, nothing is timed", SWITCH)
        return
    of.time_kernels(True)
    atexit.register(_report, of)
