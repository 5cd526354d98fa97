# SPDX-License-Identifier: Apache-2.0
"""`train.py` in several processes of one thread each, as torchrun would start them.

Forks of a process that has imported torch: seconds less than new interpreters.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iqgs.engine.settings import going_on_settings, resolve_run
from utils import entry

CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["iqgs.engine.training", "scipy.spatial"])
HANGS = 600  # seconds; a run takes some, and a minute where many others run beside it
Sabotage = Callable[[int], None]  # what a process does to itself, which has this rank, first


class Processes:
    """All processes of one run; each writes what it says to LOGS/rank<r>.log."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        logs: Path,
        world: int = 2,
        sabotage: Sabotage | None = None,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = [logs / f"rank{rank}.log" for rank in range(world)]
        # Held, not only looked up: the system gives it to nobody else, and torch, which takes
        # addresses that are bound but not listened at, still can.
        self.held = socket.socket()
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.bind(("127.0.0.1", 0))
        port = self.held.getsockname()[1]
        self.all = [
            CONTEXT.Process(target=_be, args=(rank, world, port, dict(settings), log, sabotage))
            for rank, log in enumerate(self.logs)
        ]
        for process in self.all:
            process.start()

    def wait(self, seconds: float = HANGS) -> list[int | None]:
        """Exit codes once all have ended; None for one that is still there after so long."""
        for process in self.all:
            process.join(seconds)
        codes = [process.exitcode for process in self.all]
        for process in self.all:
            process.kill()
        self.held.close()
        return codes

    def said(self, rank: int) -> str:
        """Everything that a process has said."""
        return self.logs[rank].read_text()


def run_processes(settings: Mapping[str, Any], logs: Path, **more: Any) -> Processes:
    """A run in several processes that ends well."""
    processes = Processes(settings, logs, **more)
    codes = processes.wait()
    assert codes == [0] * len(codes), [processes.said(rank) for rank in range(len(codes))]
    return processes


def _be(
    rank: int, world: int, port: int, settings: dict[str, Any], log: Path, sabotage: Sabotage | None
) -> None:
    with open(log, "ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    entry.SILENT_SECONDS = 0.0  # nobody ends the others here
    if sabotage is not None:
        sabotage(rank)

    @entry.for_many_processes
    def main() -> int:
        from iqgs.engine.training import train

        return train(resolve_run(going_on_settings(settings), settings))

    sys.exit(entry.run_command(main))
