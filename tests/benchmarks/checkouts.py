# SPDX-License-Identifier: Apache-2.0
"""Programs of a checkout as processes: how long they take, and what they said if they failed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class CommandFailed(RuntimeError):
    """A program ended with another code than 0."""


@dataclass(frozen=True)
class Spent:
    """Time of one process and of those that it started and waited for, milliseconds."""

    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True)
class Checkout:
    """A folder with the program, and the Python that runs it."""

    name: str
    root: Path
    python: str

    @staticmethod
    def this() -> Checkout:
        """The one that these benchmarks lie in."""
        return Checkout("this", ROOT, sys.executable)

    @staticmethod
    def other(root: Path) -> Checkout:
        """Another one; its own Python where it has one in .venv."""
        root = root.resolve()
        own = root / ".venv" / "bin" / "python"
        return Checkout("other", root, str(own) if own.is_file() else sys.executable)

    @property
    def environment(self) -> dict[str, str]:
        """Modules come from the checkout. This checkout's own search path would bring another's."""
        return {**os.environ, "PYTHONPATH": str(self.root)}

    def run(self, words: Sequence[str]) -> Spent:
        """Run Python with these words in the checkout's folder, once.

        Raises CommandFailed, with the last line that it said.
        """
        with tempfile.TemporaryFile() as said:
            start = time.perf_counter()
            process = subprocess.Popen(
                [self.python, *words],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            # So that it is not waited for again.
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                last = lines[-1] if lines else f"exit code {process.returncode}"
                raise CommandFailed(f"{' '.join(words)[:80]} in {self.name}: {last}")
        return Spent(1000 * wall, 1000 * (used.ru_utime + used.ru_stime))
