# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import RunError, UserError
from utils.run_lock import LOCK_NAME, RunLock

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys, time\nfrom utils.run_lock import RunLock\n"
    "lock = RunLock(sys.argv[1])\nlock.acquire()\nprint('held', flush=True)\ntime.sleep(60)"
)


@pytest.mark.fault(row=48)
def test_second_process_is_refused_and_a_dead_one_is_succeeded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid}"):
            RunLock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / LOCK_NAME).exists()  # left behind
    with RunLock(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()} {platform.node()}\n"
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.fault(row=48)
def test_a_stale_number_of_a_live_process_does_not_lock(tmp_path: Path) -> None:
    """Numbers are reused: process 1 lives, but it does not hold the file."""
    (tmp_path / LOCK_NAME).write_text("1\n")
    with RunLock(tmp_path):
        pass


def test_the_same_process_cannot_run_twice(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(UserError, match="in use"):
        RunLock(tmp_path).acquire()
    RunLock(tmp_path).release()  # of a lock that is not held


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        RunLock(tmp_path / "run").acquire()


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks: NFS without its daemon, Lustre as many clusters mount it."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.fault(row=48)
def test_without_locks_the_number_decides(no_locks: None, tmp_path: Path) -> None:
    lock = tmp_path / LOCK_NAME
    here = platform.node()
    for alive in (f"{os.getppid()} {here}", f"{os.getppid()}", "999999999 another-host"):
        lock.write_text(alive + "\n")
        with pytest.raises(UserError, match=rf"{alive.split()[0]}.*remove {lock}"):
            RunLock(tmp_path).acquire()
        assert lock.read_text() == alive + "\n"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for stale in (f"{dead.pid} {here}", f"{dead.pid}", "", "garbage", f"{os.getpid()} {here}"):
        lock.write_text(stale)
        with RunLock(tmp_path):
            assert lock.read_text() == f"{os.getpid()} {here}\n"
        assert not lock.exists()


@pytest.mark.fault(row=7)
def test_a_full_disk_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(RunError, match="disk full"):
            RunLock(tmp_path).acquire()
    with RunLock(tmp_path):  # what failed holds nothing
        pass
