# SPDX-License-Identifier: Apache-2.0
"""Commands of the program in children of a process that has imported everything once, and a short
run for them to work on."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.engine.blobs import write_blobs
from tests.engine.test_training import assert_same
from utils.checkpoints import load_checkpoint
from utils.entry import run_command

LAST = 28  # steps of a run: both stages
TRAINING = {
    **{"iterations": 16, "instance_iterations": 12, "pixels_per_step": 256, "splat_cap": 200},
    **{"densification_interval": 5, "densify_from_iter": 4, "densify_until_iter": 14},
    **{"background_seeds": 0, "threads": 1, "checkpoint_interval": 4, "sh_interval": 8},
    **{"normal_from_iter": 8, "device": "cpu"},
}
EXTRAS = ("events.out.tfevents", "video")  # what a full disk may cost without ending the command


@dataclass(frozen=True)
class Command:
    """A command line, and what a second attempt is called with instead."""

    module: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()

    def call(self, *, again: bool = False) -> int:
        """Its exit code, as a shell sees it."""
        door = importlib.import_module(self.module)
        sys.argv = [f"{self.module}.py", *(self.again if again and self.again else self.words)]
        return run_command(door.main)


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (negative: a signal), what it said, how often it wrote."""

    code: int
    said: str
    writes: int

    @property
    def sentence(self) -> str:
        """The error that it ended with."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        return errors[-1] if errors else ""


def training(scene: Path, run: Path) -> Command:
    """`train.py` on the scene, which goes on where it stopped."""
    words = [f"--{key}={value}" for key, value in TRAINING.items()]
    words += ["-s", str(scene), "-m", str(run), "--eval", "--quiet", "--resume", "auto"]
    return Command("train", tuple(words))


def shim() -> ctypes.CDLL | None:
    """The counter of writes where it was loaded before everything else."""
    name = os.environ.get("LD_PRELOAD", "")
    return ctypes.CDLL(name) if name.endswith("full_disk.so") else None


def in_child(work: Callable[[], int], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start `work` in a child whose words go to `log`; returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        with open(log, "w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            before()
            code = work()
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:  # noqa: BLE001 (the process ends here; its parent reads the words)
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(child: int, log: Path, writes: int = 0) -> Ended:
    """Wait for a child."""
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), writes)


def run_child(
    command: Command, log: Path, arm: Callable[[], None] = lambda: None, *, again: bool = False
) -> Ended:
    """A whole command."""
    count = log.with_suffix(".count")
    library = shim()

    def work() -> int:
        code = command.call(again=again)
        if library is not None:
            count.write_text(str(library.fault_count()))
        return code

    done = ended(in_child(work, log, arm), log)
    writes = int(count.read_text()) if count.exists() else 0
    count.unlink(missing_ok=True)
    return Ended(done.code, done.said, writes)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_extra(name: str) -> bool:
    return any(word in name for word in EXTRAS)


def check_same_run(found: Path, expected: Path) -> None:
    """The last checkpoint and the splats of two runs are the same to the bit."""
    one, two = (load_checkpoint(run / f"chkpnt{LAST}.pth") for run in (found, expected))
    for key in ("iteration", "stage", "gaussians", "method", "stage_state"):
        assert_same(one[key], two[key], key)
    for name in ("point_cloud.ply", "point_cloud_viewer.ply"):
        saved = [run / f"point_cloud/iteration_{LAST}" / name for run in (found, expected)]
        assert saved[0].read_bytes() == saved[1].read_bytes(), name


def check_nothing_half(run: Path) -> None:
    """Every checkpoint loads; no temporary is left."""
    for path in run.glob("chkpnt*.pth"):
        load_checkpoint(path)
    left = [path for path in run.rglob(".*.tmp")]
    assert not left, left


@dataclass
class Stage:
    """Folders of a rehearsal."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.scene, self.run = self.folder / "scene", self.folder / "run"
        self.whole, self.half = self.folder / "whole", self.folder / "half"
        self.log = self.folder / "child.log"

    def prepare(self) -> None:
        """A scene, a run that was not interrupted, and one that was half way."""
        write_blobs(self.scene, views=9)
        command = training(self.scene, self.run)
        done = run_child(command, self.log)
        assert done.code == 0, done.said
        shutil.copytree(self.run, self.whole)
        shutil.copytree(self.run, self.half)
        for number in range(12, LAST + 1, 4):
            for path in self.half.glob(f"chkpnt{number}.pth*"):
                path.unlink()
        shutil.rmtree(self.half / "point_cloud")

    def place(self, base: Path | None) -> None:
        """Put a copy of `base` (None: nothing) where the commands look for the run."""
        shutil.rmtree(self.run, ignore_errors=True)
        if base is not None:
            shutil.copytree(base, self.run)
