# SPDX-License-Identifier: Apache-2.0
"""Cells that take too long or too much memory are ended and fail with the reason, alone."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest

import iqgs.engine.reproduction.command as command_module
from arguments.reproduction import parse_reproduction_arguments
from iqgs.engine.reproduction import limits
from iqgs.engine.reproduction.command import reproduce
from iqgs.engine.reproduction.launching import ForkedRunner, Outcome, Runner, run_subprocess
from iqgs.engine.reproduction.limits import NO_LIMIT, Limit, memory_of
from tests.engine.test_reproduction import Played, write_maps
from utils.errors import UserError

FOREVER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FOREVER!r}, sys.argv[1]])"
HOARDER = "import time; kept = b'x' * 700_000_000; time.sleep(600)"
HOARDING_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOARDER!r}])"


@pytest.fixture(params=[run_subprocess, ForkedRunner()], ids=["new", "forked"])
def run(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.param
    return runner


def write(path: Path, code: str) -> str:
    path.write_text(code)
    return str(path)


class Clock:
    """Stands until a file is there with something in it, and is ten minutes on from then."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def monotonic(self) -> float:
        return 600.0 if self.sign.exists() and self.sign.stat().st_size else 0.0


def test_a_command_that_takes_too_long_is_ended_with_its_children(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, number = write(tmp_path / "sleeps.py", CHILD), tmp_path / "pid"
    monkeypatch.setattr(limits, "time", Clock(number))
    outcome = run([script, str(number)], tmp_path / "log", Limit(minutes=15.0, spent=5.1))
    assert outcome.code == -9 and outcome.ended == "it took longer than --limit_minutes 15"
    while memory_of(int(number.read_text())):  # a moment
        time.sleep(0.05)


@pytest.mark.parametrize("code", [HOARDER, HOARDING_CHILD], ids=["itself", "child"])
def test_a_command_that_needs_too_much_memory_is_ended(
    run: Runner, tmp_path: Path, code: str
) -> None:
    script = write(tmp_path / "hoards.py", code)
    outcome = run([script], tmp_path / "log", Limit(minutes=2.0, memory_gb=0.6))
    assert outcome.code == -9
    assert outcome.ended.startswith("it needed 0.") or outcome.ended.startswith("it needed 1.")
    assert outcome.ended.endswith(" GB, more than --limit_memory_gb 0.6")


def test_a_command_within_its_limits_is_left_alone(run: Runner, tmp_path: Path) -> None:
    script = write(tmp_path / "ends.py", "print('done')")
    outcome = run([script], tmp_path / "log", Limit(minutes=2.0, memory_gb=2.0))
    assert (outcome.code, outcome.words, outcome.ended) == (0, "done", "")


def test_the_memory_of_a_process_is_what_it_fills() -> None:
    before = memory_of(os.getpid())
    kept = np.ones(50_000_000, np.uint8)
    assert memory_of(os.getpid()) - before == pytest.approx(len(kept), rel=0.1)
    assert memory_of(2**22 + 1) == 0, "no such process"


class Slow(Played):
    """Takes twenty minutes for a training and eight for a scoring, as the limit lets it."""

    def __init__(self, slow: str) -> None:
        super().__init__()
        self.slow, self.limits = slow, []

    def __call__(self, command: list[str], log_file: Path, limit: Limit = NO_LIMIT) -> Outcome:
        outcome = super().__call__(command, log_file)
        minutes = 20.0 if command[0] == "train.py" else 8.0
        if self.slow not in command and command[0] == "train.py":
            minutes = 1.0
        self.limits.append(limit)
        if limit.minutes and limit.spent + minutes > limit.minutes:
            return dataclasses.replace(outcome, code=-9, ended="it took too long")
        return dataclasses.replace(outcome, seconds=60 * minutes)


def test_a_cell_over_its_limit_fails_with_the_reason_and_others_do_not(tmp_path: Path) -> None:
    """The commands of a cell share its minutes: one training and two scorings."""
    write_maps(tmp_path / "data/blobs/object_mask", [np.array([[0, 1], [2, 3]])] * 3)
    words = f"--data {tmp_path / 'data'} -o {tmp_path / 'out'} --methods vote iqgs --masks exact"
    typed = [*words.split(), "--jobs", "1", "--limit_minutes"]
    slow = Slow("vote")
    page, code = reproduce(parse_reproduction_arguments([*typed, "30"]), slow)
    assert code == 1 and page.count("FAILED: ") == 1
    assert "blobs, vote, exact, seed 0: FAILED: evaluate.py was ended: it took too long" in page
    assert "| blobs | iqgs | 2dgs | PQ | id | 50.0 |" in page
    assert max(limit.spent for limit in slow.limits) == 28.0
    page, code = reproduce(parse_reproduction_arguments([*typed, "0"]), Slow("vote"))
    assert code == 0 and "FAILED" not in page, "tried again, without a limit"


def test_a_reconstruction_over_its_limit_fails_its_cells(tmp_path: Path) -> None:
    write_maps(tmp_path / "data/blobs/object_mask", [np.array([[0, 1], [2, 3]])] * 3)
    words = f"--data {tmp_path / 'data'} -o {tmp_path / 'out'} --methods vote --masks exact"
    params = parse_reproduction_arguments([*words.split(), "--limit_minutes", "10"])
    page, code = reproduce(params, Slow("--no_masks"))
    assert code == 1
    assert "FAILED: no reconstruction: train.py was ended: it took too long" in page


def test_limits_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--limit_minutes must be 0 or positive"):
        parse_reproduction_arguments(["--limit_minutes", "-1"])
    monkeypatch.setattr(command_module, "can_measure_memory", lambda: False)
    with pytest.raises(UserError, match="--limit_memory_gb needs Linux"):
        reproduce(parse_reproduction_arguments(["--limit_memory_gb", "4"]), Played())
