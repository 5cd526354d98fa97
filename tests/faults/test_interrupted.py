# SPDX-License-Identifier: Apache-2.0
"""Full disks and kills, few of each; scripts/nightly.sh rehearses all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.blobs import write_blobs
from tests.faults import rehearsal
from tests.faults.children import LAST, training

MEMORY = Path("/dev/shm")  # flushing to a real disk takes longer than everything else
ROOT = Path(__file__).parents[2]
needs_shim = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="needs Linux and a C++ compiler",
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@needs_shim
@pytest.mark.fault(row=7)
@pytest.mark.fault(row=8)
@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_of_any_command(folder: Path) -> None:
    """One sentence, exit code 1, what was there before intact, and the same command then ends as if
    nothing had been: for one write of each command here."""
    done = rehearsal.with_shim(folder, "full-disk", str(folder / "work"), "--most", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 14 and all("'stopped': 1" in line for line in lines), done.stdout


@pytest.mark.fault(row=7)
@pytest.mark.slow
def test_a_limit_on_the_size_of_files(folder: Path) -> None:
    done = rehearsal.process("small-files", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("File too large") == 4


@pytest.mark.fault(row=1)
@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_in_the_same_bits(folder: Path) -> None:
    done = rehearsal.process("kills", str(folder), "--count", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 5


SMALL = 'mount -t tmpfs -o size=700k tmpfs "$0" && cd "$1" && shift && "$@"; echo "code $?"; '
LARGER = 'mount -o remount,size=64m "$0" && "$@"; echo "code $?"; ls "$0"'


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
@pytest.mark.fault(row=7)
@pytest.mark.slow
def test_a_run_on_a_disk_that_is_full_for_real(tmp_path: Path) -> None:
    """A disk of 700 kB, which is made larger once it is full; nothing stands in for anything."""
    scene, run = write_blobs(tmp_path / "scene", views=9), tmp_path / "disk"
    run.mkdir()
    words = training(scene, run).words
    train = [sys.executable, "train.py", *words]
    line = ["unshare", "-rm", "sh", "-c", SMALL + LARGER, str(run), str(ROOT), *train]
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", str(run)]).returncode:
        pytest.skip("this machine does not let users mount a tmpfs")
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    said = done.stderr.split("Optimizing")
    assert done.stdout.count("code 1") == 1 and done.stdout.count("code 0") == 1, done.stderr
    assert "error: disk full: need " in said[1] and "Traceback" not in done.stderr
    assert "going on from" in done.stderr and f"chkpnt{LAST}.pth" in done.stdout
