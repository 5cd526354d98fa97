# SPDX-License-Identifier: Apache-2.0
"""Runs compilers: several at once, and only where an object is older than what it is made from."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GIGABYTES_PER_PROCESS = 2
FILE_CLOCK_NS = 10_000_000  # times of files lag behind the clock by up to a tick of the kernel


@dataclass(frozen=True)
class Job:
    """One source to one object. `identity`: what else the object depends on, such as versions."""

    source: Path
    command: tuple[str, ...]  # without source and output
    target: Path
    identity: str


class CompileError(Exception):
    """A compiler or linker failed; `output` is all that it said."""

    def __init__(self, command: Sequence[str], output: str) -> None:
        super().__init__(shlex.join(command))
        self.output = output

    @property
    def report(self) -> str:
        """The command and the end of what it said."""
        tail = "\n".join(self.output.splitlines()[-30:])
        return f"this command failed:\n  {self}\n{tail}"


def run_tool(command: Sequence[str]) -> None:
    """Run quietly. Raises CompileError."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(command, done.stdout + done.stderr)


def count_jobs() -> int:
    """MAX_JOBS, else by cores and free memory."""
    wish = os.environ.get("MAX_JOBS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    jobs = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        jobs = len(os.sched_getaffinity(0))
    try:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return jobs
    return max(1, min(jobs, memory // (GIGABYTES_PER_PROCESS << 30)))


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _key(job: Job) -> str:
    words = "\0".join([*job.command, str(job.source), job.identity])
    return hashlib.sha256(words.encode()).hexdigest()


def listed_files(text: str) -> list[Path]:
    """The prerequisites in a dependency file as compilers write them for make."""
    after_target = text.replace("\\\n", " ").partition(": ")[2].splitlines()
    words = re.findall(r"(?:\\.|[^\s\\])+", after_target[0] if after_target else "")
    return [Path(re.sub(r"\\(.)", r"\1", word).replace("$$", "$")) for word in words]


def up_to_date(job: Job) -> bool:
    """The object was made by this very command and is newer than all files that it read."""
    try:
        made = job.target.stat().st_mtime_ns
        if _beside(job.target, ".key").read_text(encoding="utf-8") != _key(job):
            return False
        files = listed_files(_beside(job.target, ".d").read_text(encoding="utf-8"))
        return bool(files) and all(file.stat().st_mtime_ns < made for file in files)
    except (OSError, UnicodeDecodeError):
        return False


def compile_one(job: Job) -> bool:
    """Compile if needed; says whether it was. Raises CompileError."""
    if up_to_date(job):
        return False
    # Whoever reads the object meets a whole one, also when two builds share the folder.
    half = _beside(job.target, f".{os.getpid()}.o")
    depends = _beside(job.target, f".{os.getpid()}.d")
    key = _beside(job.target, ".key")
    started = time.time_ns() - FILE_CLOCK_NS
    try:
        run_tool(
            [*job.command, "-MMD", "-MF", str(depends), "-c", str(job.source), "-o", str(half)]
        )
        os.utime(half, ns=(started, started))  # a source that changes meanwhile is newer
        key.unlink(missing_ok=True)
        os.replace(depends, _beside(job.target, ".d"))
        os.replace(half, job.target)
        key.write_text(_key(job), encoding="utf-8")
    finally:
        for path in (half, depends):
            path.unlink(missing_ok=True)
    return True


def compile_all(jobs: Sequence[Job], workers: int) -> dict[Job, CompileError]:
    """Compile what is out of date, `workers` at once; the jobs that failed, with what was said."""

    def attempt(job: Job) -> CompileError | None:
        try:
            compile_one(job)
        except CompileError as error:
            return error
        return None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = list(pool.map(attempt, jobs))
    return {job: error for job, error in zip(jobs, results, strict=True) if error is not None}
