# SPDX-License-Identifier: Apache-2.0
"""A folder from somebody else is data: nothing in it is executed, nothing outside it is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.guard import Guard
from tests.faults.hostile import CASES
from utils.errors import DataError
from utils.links import refuse_links_out

ROOT = Path(__file__).parents[2]


@pytest.mark.fault(row=11)
@pytest.mark.fault(row=13)
@pytest.mark.fault(row=15)
@pytest.mark.slow
def test_every_command_opens_every_hostile_folder_and_nothing_happens(tmp_path: Path) -> None:
    """Under an audit hook, which is told of every file that is opened and of all that is run."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.hostile", str(tmp_path), "2"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(CASES)


@pytest.mark.parametrize(
    ("act", "noted"),
    [
        ("os.system('true')", "os.system"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("open({out!r} + '/x', 'w').close()", "open for writing"),
        ("open({out!r} + '/victim').read()", "open "),
        ("os.rename({run!r} + '/a', {out!r} + '/a')", "os.rename for writing"),
        ("import shutil; shutil.rmtree({out!r})", "shutil.rmtree for writing"),
        ("import pathlib; pathlib.Path({run!r}, 'link').read_text()", "open "),
        ("open({run!r} + '/new', 'w').close()", ""),
        ("open(os.__file__).read()", ""),
        ("import tempfile; tempfile.TemporaryDirectory(dir={run!r}).cleanup()", ""),
    ],
)
def test_the_hook_sees_what_it_is_there_for(tmp_path: Path, act: str, noted: str) -> None:
    run, out = tmp_path / "run", tmp_path / "outside"
    for folder in (run, out):
        folder.mkdir()
    (out / "victim").write_text("mine")
    (run / "a").write_text("")
    (run / "link").symlink_to(out / "victim")
    program = (
        "import os, sys, pathlib\nfrom tests.faults.guard import Guard\n"
        f"places = [pathlib.Path(p) for p in {[str(run), str(out), str(tmp_path / 'notes')]!r}]\n"
        "sys.addaudithook(Guard((places[0],), places[1], places[2]))\n"
    )
    program += act.format(run=str(run), out=str(out))
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    notes = (tmp_path / "notes").read_text()
    assert notes.startswith(noted) if noted else not notes, notes


@pytest.mark.fault(row=15)
def test_links_inside_a_run_are_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "test/ours_3").mkdir(parents=True)
    (run / "newest").symlink_to("test/ours_3")
    (tmp_path / "short").symlink_to(run)  # the run's folder may be a link
    refuse_links_out(run)
    refuse_links_out(tmp_path / "short")
    (run / "test/out").symlink_to(tmp_path)
    for name in ("run", "short"):
        with pytest.raises(DataError, match=rf"{name}/test/out: a link out of the run's folder"):
            refuse_links_out(tmp_path / name)


def test_the_guard_is_told_apart_from_its_name() -> None:
    """A folder whose name begins alike is another folder."""
    assert Guard._below("/a/b/c", "/a/b") and not Guard._below("/a/bc", "/a/b")
