# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils.checkpoints import load_checkpoint, newest_good, save_checkpoint
from utils.errors import DataError, RunError, UserError
from utils.storage import atomic_folder, atomic_write, sweep_stale, write_text

ROOT = Path(__file__).parents[2]
STATE = {
    "iteration": 7,
    "params": {"means": torch.arange(12.0).reshape(4, 3)},
    "order": [3, 1, 2],
    "note": None,
}
# A child saves one checkpoint over and over, every entry of its tensor holding the number of the
# save, until it is killed; then what it left is loaded.
KILLER = """
import os, random, signal, sys, time, torch
from utils.checkpoints import load_checkpoint, newest_good, save_checkpoint
from utils.storage import sweep_stale
path, waits = sys.argv[1], random.Random(0)
state = {"i": 0, "t": torch.zeros(300_000)}
save_checkpoint(path, state)
for _ in range(10):
    child = os.fork()
    while child == 0:
        state["i"] += 1
        state["t"].fill_(float(state["i"]))
        save_checkpoint(path, state)
    time.sleep(waits.uniform(0.03, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert newest_good([path])[1] == [], "damaged"
    state = load_checkpoint(path)
    assert (state["t"] == state["i"]).all(), "mixed"
swept = len(sweep_stale(os.path.dirname(path)))
print(state["i"], swept)
"""


@pytest.mark.fault(row=1)
def test_two_kills_at_the_same_place_leave_a_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sidecar and the file, of two saves in a row."""
    path = tmp_path / "chkpnt7.pth"
    save_checkpoint(path, STATE)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("utils.checkpoints.publish", killed)
        for number in (8, 9):
            with pytest.raises(KeyboardInterrupt):
                save_checkpoint(path, {**STATE, "iteration": number})
    assert newest_good([path]) == (path, [])
    save_checkpoint(path, {**STATE, "iteration": 10})
    assert load_checkpoint(path)["iteration"] == 10
    assert len(path.with_name(path.name + ".sha256").read_text().splitlines()) == 1


@pytest.mark.fault(row=1)
def test_kills_during_saves_leave_a_good_checkpoint(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path / "chkpnt.pth")],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    saves, _ = map(int, result.stdout.split())
    assert saves > 1  # the kills hit a child at work
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chkpnt.pth", "chkpnt.pth.sha256"]


@pytest.mark.fault(row=1)
def test_kill_at_every_step_of_a_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop the save before each rename in turn; what is left always loads."""
    path = tmp_path / "c.pth"
    real = os.replace

    class Killed(BaseException):
        pass

    for allowed in range(4):
        save_checkpoint(path, {"i": 0})
        calls = iter(range(10))

        def replace(old, new, allowed=allowed, calls=calls):
            if next(calls) == allowed:
                raise Killed
            real(old, new)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            if allowed < 3:
                with pytest.raises(Killed):
                    save_checkpoint(path, {"i": 1})
            else:
                save_checkpoint(path, {"i": 1})
        assert load_checkpoint(path) == {"i": 0 if allowed < 2 else 1}


def test_checkpoint_round_trip_and_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "chkpnt7.pth"
    save_checkpoint(path, STATE)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["params"]["means"], STATE["params"]["means"])
    assert {k: loaded[k] for k in ("iteration", "order", "note")} == {
        k: STATE[k] for k in ("iteration", "order", "note")
    }
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert Path(f"{path}.sha256").read_text() == f"{digest}  chkpnt7.pth\n"
    save_checkpoint(path, {**STATE, "iteration": 8})  # over the old one
    assert load_checkpoint(path)["iteration"] == 8
    assert len(Path(f"{path}.sha256").read_text().splitlines()) == 1


@pytest.mark.fault(row=12)
def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    save_checkpoint(path, STATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="sha256"):
        load_checkpoint(path)


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.fault(row=11)
def test_malicious_pickle_is_refused(tmp_path: Path) -> None:
    path, marker = tmp_path / "c.pth", tmp_path / "executed"
    torch.save({"a": _Malicious(marker)}, path)
    with pytest.raises(DataError, match="refused"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80\x02.", b"garbage" * 99, b"\x80\x02N."])
def test_foreign_bytes_are_a_data_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.pth").write_bytes(data)
    with pytest.raises(DataError, match=r"c\.pth"):
        load_checkpoint(tmp_path / "c.pth")


def test_every_kind_of_damage_without_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save(STATE, path)
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        with contextlib.suppress(DataError):
            assert isinstance(load_checkpoint(path), dict)


def test_family_tuple_is_read(tmp_path: Path) -> None:
    torch.save(((3, torch.ones(2)), 30_000), tmp_path / "chkpnt30000.pth")
    state = load_checkpoint(tmp_path / "chkpnt30000.pth")
    assert state["iteration"] == 30_000 and state["capture"][0] == 3


@pytest.mark.fault(row=4)
def test_newest_good_passes_over_the_damaged(tmp_path: Path) -> None:
    paths = [tmp_path / f"chkpnt{n}.pth" for n in (900, 1000, 10_000)]
    for path in paths:
        save_checkpoint(path, STATE)
    assert newest_good(paths) == (paths[2], [])
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    assert newest_good(paths) == (paths[1], [paths[2]])
    for path in paths:
        path.write_bytes(b"")
    assert newest_good(paths) == (None, paths[::-1])
    assert newest_good([]) == (None, [])


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(stream) -> None:
        stream.write(b"half")
        raise KeyError("interrupted")

    with pytest.raises(KeyError):
        atomic_write(path, fail)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.fault(row=7)
def test_full_disk_names_need_and_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ENOSPC: torch answers it with a RuntimeError that does not mention the disk."""
    path = tmp_path / "c.pth"
    save_checkpoint(path, STATE)
    monkeypatch.setattr("utils.storage._open_temporary", lambda _: io.FileIO("/dev/full", "w"))
    with pytest.raises(RunError, match=r"disk full: need 4\.0 MB, free [\d.]+ MB in ") as caught:
        save_checkpoint(path, {"t": torch.zeros(1_000_000)})
    assert caught.value.exit_code == 1 and str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    assert load_checkpoint(path)["iteration"] == 7


SMALL_DISK = """
import sys, torch
from utils.errors import RunError
from utils.checkpoints import load_checkpoint, save_checkpoint
path = sys.argv[1] + "/c.pth"
save_checkpoint(path, {"i": 1})
try:
    save_checkpoint(path, {"i": 2, "t": torch.zeros(2_000_000)})
except RunError as error:
    print(error)
print(load_checkpoint(path))
"""


def _in_small_disk(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run `command` where `folder` is a disk of 2 MB, in a name space of its own."""
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    line = ["unshare", "-rm", "sh", "-c", mount, str(folder), *command]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.fault(row=7)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
def test_small_disk_is_full_for_real(tmp_path: Path) -> None:
    if _in_small_disk(tmp_path, "true").returncode != 0:
        pytest.skip("this machine does not let users mount a tmpfs")
    result = _in_small_disk(tmp_path, sys.executable, "-c", SMALL_DISK, str(tmp_path))
    assert result.returncode == 0, result.stderr
    message, state = result.stdout.splitlines()
    assert message == f"disk full: need 8.0 MB, free 2.1 MB in {tmp_path}"
    assert state == "{'i': 1}"


@pytest.mark.fault(row=9)
def test_unwritable_places_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x", tmp_path / "folder"):
        with pytest.raises(UserError, match="cannot write"):
            write_text(path, "x")
    with pytest.raises(UserError, match="cannot write"), atomic_folder(tmp_path / "file" / "x"):
        pass


@pytest.mark.fault(row=47)
def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "point_cloud" / "iteration_7"
    with pytest.raises(KeyError), atomic_folder(target) as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert not target.exists() and not any(target.parent.iterdir())
    for content in ("first", "second"):
        with atomic_folder(target) as folder:
            assert not any(folder.iterdir())
            (folder / content).write_text(content)
            assert folder.parent == target.parent
    assert [p.name for p in target.iterdir()] == ["second"]
    assert [p.name for p in target.parent.iterdir()] == ["iteration_7"]


@pytest.mark.fault(row=1)
def test_sweep_removes_only_what_the_dead_left(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [tmp_path / f".c.pth.{dead.pid}.0.tmp", tmp_path / "sub" / f".it.{dead.pid}.1.tmp"]
    gone[0].write_text("half")
    gone[1].mkdir(parents=True)
    (gone[1] / "inside").write_text("half")
    stays = [
        tmp_path / f".c.pth.{os.getppid()}.0.tmp",  # of a living process
        tmp_path / "notes.tmp",
        tmp_path / ".hidden.tmp",
    ]
    for path in stays:
        path.write_text("")
    with atomic_folder(tmp_path / "now") as folder:
        (folder / "x").write_text("")
        assert sorted(sweep_stale(tmp_path)) == sorted(gone)
    assert not any(p.exists() for p in gone) and all(p.exists() for p in stays)
    assert (tmp_path / "now" / "x").exists()


@pytest.mark.fault(row=47)
def test_sweep_puts_a_folder_back_that_a_kill_set_aside(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    aside = tmp_path / f".iteration_7.{dead.pid}.5.old.tmp"
    aside.mkdir()
    (aside / "a.ply").write_text("whole")
    assert sweep_stale(tmp_path) == []
    assert (tmp_path / "iteration_7" / "a.ply").read_text() == "whole"
