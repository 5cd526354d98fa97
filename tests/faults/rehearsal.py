# SPDX-License-Identifier: Apache-2.0
"""Rehearsals of what ends a program from outside: a full disk at every write, a kill at any moment.

`python -m tests.faults.rehearsal full-disk|small-files|kills|memory FOLDER [--most N] [--count N]`
prints one line a case and returns 1 at the first finding. Everything is imported once; every
command runs in a child of this process, so that hundreds of them take minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import faulthandler
import importlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from diff_surfel_rasterization.backends import native_module
from tests.faults.children import (
    LAST,
    Command,
    Ended,
    Stage,
    check_nothing_half,
    check_same_run,
    ended,
    files_of,
    in_child,
    is_extra,
    run_child,
    shim,
    training,
)
from utils.checkpoints import load_checkpoint
from utils.shortage import keep_reserve

SHIM = Path(__file__).with_name("full_disk.cpp")
ROOM = ("--views=5", "--width=40", "--height=30", "--workers=1", "--geometry")


def commands(stage: Stage) -> dict[str, tuple[Path | None, Command]]:
    """Name -> (the run that it begins with, the command): each kind of file that is written."""
    run, train = str(stage.run), training(stage.scene, stage.run)
    few = ("-m", run, "--device", "cpu", "--threads", "1", "--quiet")
    cached = Command("train", (*train.words, "--cache_path", f"{run}/cache"))
    repaired = Command("train", (*train.words, "--repair_masks=auto"))
    out, splats = f"{run}/out", f"{run}/point_cloud/iteration_{LAST}/point_cloud.ply"
    return {
        "train, from the start": (None, train),
        "train, going on": (stage.half, train),
        "train, cached weights": (None, cached),
        "train, repaired masks": (None, repaired),
        "render": (stage.whole, Command("render", (*few, "--masks", "--skip_train"))),
        "evaluate": (stage.whole, Command("evaluate", (*few, "--report"))),
        "export ply": (stage.whole, Command("scripts.export", (*few, "-o", f"{out}.ply"))),
        "export glb": (stage.whole, Command("scripts.export", (*few, "-o", f"{out}.glb"))),
        "export html": (stage.whole, Command("scripts.export_html", (*few, "-o", f"{out}.html"))),
        "objects": (stage.whole, Command("scripts.objects", (*few, "-o", f"{run}/all"))),
        "edit list": (stage.whole, Command("scripts.edit", ("list", *few))),
        "edit": (
            stage.whole,
            Command("scripts.edit", ("recolor", *few, "--box=-9,-9,-9,9,9,9", "--color", "1,0,0")),
        ),
        "associate masks": (
            stage.whole,
            Command(
                "scripts.associate_masks",
                ("-s", str(stage.scene), "--splats", splats, "--output", f"{run}/masks", *few[2:]),
            ),
        ),
        "a scene": (
            stage.half,
            Command(
                "scripts.make_synthetic_scene",
                (f"{run}/room", *ROOM),
                (f"{run}/room", *ROOM, "--overwrite"),
            ),
        ),
    }


def check_full(stage: Stage, base: Path | None, command: Command, n: int, done: Ended) -> str:
    """What must hold after the n-th write failed; returns how it ended in a word."""
    assert "Traceback" not in done.said, done.said
    if done.code == 0:  # only what is an extra was lost
        return "went on"
    assert done.code == 1, f"write {n}: exit code {done.code}: {done.said}"
    assert re.search("disk full|cannot write|cannot be written", done.sentence), done.said
    if base is not None:
        now, old = files_of(stage.run), files_of(base)
        for name, data in old.items():
            if name == "log.jsonl":
                assert now[name].startswith(data)
            elif command.module != "train" and not is_extra(name):
                assert now.get(name) == data, f"write {n} changed {name}"
    check_nothing_half(stage.run)
    return "stopped"


def spread(writes: int, most: int) -> list[int]:
    """At most so many of the numbers of writes, evenly; all for 0."""
    count = min(writes, most) if most else writes
    return [(2 * i + 1) * writes // (2 * count) for i in range(count)]


def full_disk(folder: Path, most: int, only: str = "") -> None:
    """Every command with `most` of its writes in turn as the first that fails."""
    library = shim()
    assert library is not None, "run through `with_shim`"
    stage = Stage(folder)
    stage.prepare()
    for name, (base, command) in commands(stage).items():
        if only and only not in name:
            continue
        stage.place(base)
        # The lock, the log and the run's own folder exist in all cases.
        counted = run_child(command, stage.log, lambda: arm(library, stage.run, -1, 0))
        assert counted.code == 0, counted.said
        tally = {"stopped": 0, "went on": 0}
        numbers = spread(counted.writes, most)
        for n in numbers:
            code = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)[n % 3]
            stage.place(base)
            done = run_child(command, stage.log, lambda n=n, c=code: arm(library, stage.run, n, c))
            tally[check_full(stage, base, command, n, done)] += 1
            again = run_child(command, stage.log, again=True)
            assert again.code == 0, f"write {n}, then again: {again.said}"
            if command.module == "train" and "repaired" not in name:
                check_same_run(stage.run, stage.whole)
            check_nothing_half(stage.run)
        print(
            f"{name}: {counted.writes} writes, {len(numbers)} failed in turn: {tally}", flush=True
        )
        assert tally["stopped"], name


def arm(library: ctypes.CDLL, folder: Path, allowed: int, code: int) -> None:
    library.fault_arm(str(folder).encode(), ctypes.c_long(allowed), code)


def small_files(folder: Path) -> None:
    """A limit on the size of files (EFBIG) while a run is trained, at every size that matters."""
    stage = Stage(folder)
    stage.prepare()
    command = training(stage.scene, stage.run)
    largest = max(path.stat().st_size for path in stage.whole.rglob("*") if path.is_file())
    for share in (0.005, 0.05, 0.5, 0.95):
        size = int(largest * share)
        stage.place(stage.half)

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        done = run_child(command, stage.log, limit)
        check_full(stage, stage.half, command, -1, done)
        assert done.code == 1, done.said
        assert run_child(command, stage.log).code == 0
        check_same_run(stage.run, stage.whole)
        print(f"files of at most {size} bytes: {done.sentence}", flush=True)


def kills(folder: Path, count: int, seed: int = 0) -> None:
    """Kill a run at random moments; what goes on from there ends in the same bits."""
    stage = Stage(folder)
    stage.prepare()
    command = training(stage.scene, stage.run)
    stage.place(None)
    began = time.monotonic()
    assert run_child(command, stage.log).code == 0
    seconds = time.monotonic() - began
    moments = random.Random(seed)
    for number in range(count):
        stage.place(None)
        hits = []
        for _ in range(1 + number % 2):  # every second run is killed twice
            moment = moments.uniform(0, seconds)
            child = in_child(command.call, stage.log)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            done = ended(child, stage.log)
            saved = sorted(int(p.stem[6:]) for p in stage.run.glob("chkpnt*.pth"))
            hits.append(f"{moment:.2f} s{'' if done.code else ' (had ended)'}: {saved}")
            for path in stage.run.glob("chkpnt*.pth"):
                load_checkpoint(path)
        done = run_child(command, stage.log)
        assert done.code == 0, done.said
        check_same_run(stage.run, stage.whole)
        check_nothing_half(stage.run)
        print(f"kill {number + 1} of {count}: {'; '.join(hits)}", flush=True)


def memory(folder: Path, count: int, seed: int = 0) -> None:
    """A limit on the address space while a run is trained: a few megabytes more than it began with.

    It fails wherever the next allocation is, in Python, torch or the rasterizer; in every second
    run the libraries that a run loads late are there before, so that it fails in the steps. A run
    that ends well must end in the same bits.
    """
    stage = Stage(folder)
    stage.prepare()
    command = training(stage.scene, stage.run)
    room = random.Random(seed)
    seen: dict[int, int] = {}
    for number in range(count):
        extra = int(2 ** room.uniform(16, 28))  # 64 KiB to 256 MiB
        stage.place(stage.half)

        def limit(extra: int = extra, late: bool = number % 2 == 0) -> None:
            if not late:
                native_module()
                importlib.import_module("torch.utils.tensorboard")
            keep_reserve()
            faulthandler.enable()
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = pages * os.sysconf("SC_PAGE_SIZE") + extra
            resource.setrlimit(resource.RLIMIT_AS, (size, size))

        done = run_child(command, stage.log, limit)
        where = f"{extra / 2**20:.2f} MiB more: "
        assert "Traceback" not in done.said and done.code in (0, 1), where + done.said
        assert done.code == 0 or "out of memory" in done.sentence, where + done.said
        seen[done.code] = seen.get(done.code, 0) + 1
        print(f"{number + 1} of {count}, {where}{done.sentence or 'enough'}", flush=True)
        check_nothing_half(stage.run)
        assert run_child(command, stage.log).code == 0
        check_same_run(stage.run, stage.whole)
    assert seen.get(1), seen


def with_shim(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """This module as a process of its own, with the counter of writes before everything else."""
    library = folder / "full_disk.so"
    compiler = os.environ.get("CXX", "g++")
    build = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"]
    subprocess.run(build, check=True)
    return process(*words, LD_PRELOAD=str(library))


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """This module as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.rehearsal", *words],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("full-disk", "small-files", "kills", "memory"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=0, help="full-disk: writes of each command")
    parser.add_argument("--only", default="", help="full-disk: commands whose names hold this")
    parser.add_argument("--count", type=int, default=25, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="kills")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    import iqgs.engine.training  # noqa: F401  (once, for all children)

    if options.what == "full-disk":
        full_disk(options.folder, options.most, options.only)
    elif options.what == "small-files":
        small_files(options.folder)
    elif options.what == "memory":
        memory(options.folder, options.count, options.seed)
    else:
        kills(options.folder, options.count, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
