# SPDX-License-Identifier: Apache-2.0
"""How and where the commands of a table run: processes of this machine, its GPUs, or Slurm."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from iqgs.engine.reproduction.limits import NO_LIMIT, POLL_SECONDS, Limit, Watch
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
# What all commands import, once for all of them.
PRELOADED = ("__main__", "iqgs.engine.training", "iqgs.engine.scoring.results")
# Starting a process looks after all others, and two threads that ask for the end of the same one
# at once get its exit code and this number, in any order (python/cpython#130895).
LOST = 255
_CHILDREN = threading.Lock()  # held by whoever starts a process, or asks for the end of one


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, seconds, peak host memory (MiB), its last words, processor
    seconds of all its threads, and why it was ended, if it was.
    """

    code: int
    seconds: float
    peak: float
    words: str
    cpu: float = 0.0
    ended: str = ""


# (command, file of what it says[, limit]); without a limit it is called with the first two.
Runner = Callable[..., Outcome]


@dataclass
class Limited:
    """Runs the commands of one cell, which share its time."""

    run: Runner
    limit: Limit

    def __call__(self, command: list[str], log_file: Path) -> Outcome:
        if not self.limit.is_set:
            return self.run(command, log_file)
        outcome = self.run(command, log_file, self.limit)
        self.limit = self.limit.after(outcome.seconds)
        return outcome


class Promised(Protocol):
    """A future, or a job of submitit."""

    def result(self) -> Any: ...


class Executor(Protocol):
    """Starts functions somewhere: a pool of threads, or an executor of submitit."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Promised: ...


def run_subprocess(command: list[str], log_file: Path, limit: Limit = NO_LIMIT) -> Outcome:
    """Run a command of this checkout in a new interpreter; all it says goes to `log_file`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log_file.open("ab") as stream:
        begin = stream.tell()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT
        )
        watch = Watch(limit, process.pid)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG if limit.is_set else 0)
        while not ended:
            watch.look()
            time.sleep(POLL_SECONDS)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    used = _used(usage, _last_words(log_file, begin))
    return Outcome(process.returncode, seconds, *used, watch.reason)


class ForkedRunner:
    """Runs commands in forks of a process that has imported torch: 2 s less for each.

    With GPUs, each command has one for itself while as many run as there are GPUs.
    """

    def __init__(self, jobs: int = 1, gpus: int | None = None) -> None:
        gpus = torch.cuda.device_count() if gpus is None else gpus
        self.context: Any = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))
        self.slots: queue.Queue[str | None] = queue.Queue()
        for number in range(jobs):
            self.slots.put(str(number % gpus) if gpus > 1 else None)

    def __call__(self, command: list[str], log_file: Path, limit: Limit = NO_LIMIT) -> Outcome:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        begin = log_file.stat().st_size if log_file.exists() else 0
        gpu = self.slots.get()
        try:
            start = time.monotonic()
            ours, theirs = self.context.Pipe(duplex=False)
            process = self.context.Process(target=_forked, args=(command, log_file, gpu, theirs))
            with _CHILDREN:
                process.start()
            theirs.close()
            watch = Watch(limit, process.pid)
            said = _ended(process, ours, watch)
            seconds = time.monotonic() - start
        finally:
            self.slots.put(gpu)
        words = _last_words(log_file, begin)
        if said is None:  # killed
            return Outcome(process.exitcode, seconds, 0.0, words, 0.0, watch.reason)
        code, usage = said
        if process.exitcode != LOST:
            code = process.exitcode
        return Outcome(code, seconds, *_used(usage, words), watch.reason)


def _ended(process: Any, told: Connection, watch: Watch) -> tuple[int, Any] | None:
    """Wait until the command has ended; its own exit code and usage, None where it was killed.

    It is its own pipe that says that it has ended: multiprocessing's says so, too, where only the
    fork server has.
    """
    pause = POLL_SECONDS if watch.limit.is_set else None
    said = None
    for sign in (told, process.sentinel):
        while not wait([sign], pause):
            watch.look()
        if sign is told:
            with contextlib.suppress(EOFError):
                said = told.recv()
    with _CHILDREN:
        process.join()
    told.close()
    return said


def _forked(command: list[str], log_file: Path, gpu: str | None, told: Connection) -> None:
    """Be that command, and tell its exit code and what it used."""
    import resource

    with log_file.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.chdir(ROOT)
    sys.argv = list(command)
    code = 1
    try:
        runpy.run_path(str(ROOT / command[0]), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        told.send((code, resource.getrusage(resource.RUSAGE_SELF)))


def _used(usage: Any, words: str) -> tuple[float, str, float]:
    """Peak memory, the words again, and processor seconds: what follows the wall seconds."""
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return float(peak), words, float(usage.ru_utime + usage.ru_stime)


def _last_words(log_file: Path, begin: int) -> str:
    said = log_file.read_bytes()[begin:].decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else "it said nothing"


def default_runner(jobs: int) -> Runner:
    """The quickest that this system has."""
    return ForkedRunner(jobs) if sys.platform == "linux" else run_subprocess


def slurm_executor(folder: Path, settings: tuple[str, ...]) -> Executor:
    """An executor of submitit; `settings` are `name=value`, `cluster=local` is this machine.

    Raises UserError without submitit, and for settings that it refuses.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError("--slurm needs submitit; run: pip install submitit") from error
    given = dict(word.partition("=")[::2] for word in settings)
    if not all(given.values()):
        raise UserError(f"--slurm takes settings as name=value, got {' '.join(settings)}")
    # A job imports this checkout, and not the one that may be installed.
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    cluster = given.pop("cluster", "slurm")
    numbers = {key: int(value) if value.isdigit() else value for key, value in given.items()}
    try:
        executor: Executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**numbers)  # type: ignore[attr-defined]
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise UserError(f"--slurm {' '.join(settings)}: {error}") from error
    return executor
