# SPDX-License-Identifier: Apache-2.0
"""How long a cell may take and how much memory; what is over its limit is ended."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

GB = 1e9
POLL_SECONDS = 0.1
PROCESSES = Path("/proc")
COUNTED = ("RssAnon:", "RssShmem:")  # pages of mapped files can be dropped at any time


@dataclass(frozen=True)
class Limit:
    """For one cell; 0: none. `spent` are the minutes that the cell has taken before."""

    minutes: float = 0.0
    memory_gb: float = 0.0
    spent: float = 0.0

    @property
    def is_set(self) -> bool:
        """Whether there is anything to watch."""
        return self.minutes > 0 or self.memory_gb > 0

    def after(self, seconds: float) -> Limit:
        """What is left for the next command of a cell."""
        return replace(self, spent=self.spent + seconds / 60)


NO_LIMIT = Limit()


class Watch:
    """Watches a process and its children from now on."""

    def __init__(self, limit: Limit, pid: int) -> None:
        self.limit, self.pid = limit, pid
        self.began = time.monotonic()
        self.reason = ""  # why it was ended; empty: it was not

    def look(self) -> None:
        """End the process with its children where it is over a limit."""
        if not self.reason:
            self.reason = self._broken()
            if self.reason:
                end(self.pid)

    def _broken(self) -> str:
        limit = self.limit
        taken = limit.spent + (time.monotonic() - self.began) / 60
        if limit.minutes and taken > limit.minutes:
            return f"it took longer than --limit_minutes {limit.minutes:g}"
        if limit.memory_gb:
            used = sum(memory_of(pid) for pid in family(self.pid)) / GB
            if used > limit.memory_gb:
                return f"it needed {used:.1f} GB, more than --limit_memory_gb {limit.memory_gb:g}"
        return ""


def can_measure_memory() -> bool:
    """Whether this system tells what a process uses."""
    return (PROCESSES / str(os.getpid()) / "status").is_file()


def memory_of(pid: int) -> int:
    """Bytes of host memory that a process cannot do without; 0 for one that is gone."""
    try:
        lines = (PROCESSES / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    kib = [int(line.split()[1]) for line in lines if line.startswith(COUNTED)]
    return 1024 * sum(kib)


def family(pid: int) -> list[int]:
    """A process and all that it has started, itself first."""
    found = [pid]
    for parent in found:
        for listed in (PROCESSES / str(parent) / "task").glob("*/children"):
            try:
                found += [int(word) for word in listed.read_text().split()]
            except OSError:  # it has just ended
                continue
    return found


def end(pid: int) -> None:
    """End a process and all that it has started, at once."""
    for member in family(pid):
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
