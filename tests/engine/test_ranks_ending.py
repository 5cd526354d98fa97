# SPDX-License-Identifier: Apache-2.0
"""How several processes end: nobody is left waiting, and each end has its sentence."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from utils.checkpoints import load_checkpoint
from utils.errors import RunError

from .processes import HANGS, Processes

Settings = Callable[..., dict[str, object]]
ROOT = Path(__file__).resolve().parents[2]
SOON = 30  # seconds in which the others must have ended


def dice_of_its_own(rank: int) -> None:
    import iqgs.engine.stages.reconstruction as module

    shared = module.step_generator
    module.step_generator = lambda seed, iteration, purpose: shared(seed + rank, iteration, purpose)


def test_processes_that_come_apart_stop_and_say_when(settings: Settings, tmp_path: Path) -> None:
    typed = settings(tmp_path / "run", percent_dense=0.0)  # all are split, none is cloned
    processes = Processes(typed, tmp_path / "logs", sabotage=dice_of_its_own)
    assert processes.wait() == [1, 1]
    for rank in (0, 1):
        said = processes.said(rank)
        assert "have come apart by step 5: the parameters of process 1 are not" in said
        assert "Traceback" not in said


def no_number_in_the_second(rank: int) -> None:
    import iqgs.engine.stages.reconstruction as module

    good = module.photometric_terms

    def terms(*given: object) -> dict[str, torch.Tensor]:
        made = good(*given)
        return {**made, "l1": made["l1"] * float("nan")} if rank else made

    module.photometric_terms = terms


def no_disk_in_the_first(rank: int) -> None:
    import iqgs.engine.training as module

    def full(*_: object) -> None:
        raise RunError("the disk is full")

    module.save_iteration = full


def broken_second(rank: int) -> None:
    import iqgs.engine.stages.reconstruction as module

    def broken(*_: object) -> None:
        raise ZeroDivisionError("in process 1")

    if rank:
        module.photometric_terms = broken


@pytest.mark.parametrize(
    ("sabotage", "first", "second"),
    [
        (no_number_in_the_second, "process 1 of 2 stopped: the loss is not finite at step 1,", ""),
        (no_disk_in_the_first, "error: the disk is full", "process 0 of 2 stopped: the disk is"),
        (broken_second, "process 1 of 2 stopped: ZeroDivisionError: in process 1", "Traceback"),
    ],
)
def test_a_failure_in_one_process_is_told_to_all(
    settings: Settings, tmp_path: Path, sabotage: Callable[[int], None], first: str, second: str
) -> None:
    processes = Processes(settings(tmp_path / "run"), tmp_path / "logs", sabotage=sabotage)
    assert processes.wait() == [1, 1]
    assert first in processes.said(0) and "Traceback" not in processes.said(0)
    assert second in processes.said(1)


def late_second(rank: int) -> None:
    import iqgs.engine.ranks as module

    module.MEETING_WAIT = datetime.timedelta(seconds=3)
    if rank:
        os._exit(7)


def no_address(rank: int) -> None:
    del os.environ["MASTER_ADDR"]


@pytest.mark.parametrize(
    ("sabotage", "codes", "words"),
    [
        (late_second, [1, 7], "process 0 of 2 cannot meet the others at 127.0.0.1:"),
        (no_address, [1, 1], "process 0 of 2 cannot meet the others at ?:"),
    ],
)
def test_processes_that_do_not_meet_say_so(
    settings: Settings,
    tmp_path: Path,
    sabotage: Callable[[int], None],
    codes: list[int],
    words: str,
) -> None:
    processes = Processes(settings(tmp_path / "run"), tmp_path / "logs", sabotage=sabotage)
    assert processes.wait(SOON) == codes
    assert words in processes.said(0) and "Traceback" not in processes.said(0)
    assert not (tmp_path / "run").exists(), "nothing is begun before they have met"


def another_folder_for_the_second(rank: int) -> None:
    import iqgs.engine.training as module

    if rank:
        module.state_to_go_on_from = lambda config, folder: None


def no_repaired_masks_for_the_second(rank: int) -> None:
    from iqgs.engine.association.masks_folder import AssociatedMasks

    if rank:
        AssociatedMasks.read = classmethod(lambda cls, folder: None)


def test_machines_that_do_not_see_the_same_folder_are_told(
    settings: Settings, tmp_path: Path
) -> None:
    short, logs = {"iterations": 3, "instance_iterations": 3}, tmp_path / "logs"
    blind = Processes(settings(tmp_path / "a"), logs, sabotage=no_repaired_masks_for_the_second)
    assert blind.wait() == [1, 2]
    assert "repaired_masks is not there: all machines of a run must see it" in blind.said(0)
    assert train(resolve_run(settings(tmp_path / "b", **short))) == 0
    on = settings(tmp_path / "b", **short, resume="auto")
    blind = Processes(on, tmp_path / "more", sabotage=another_folder_for_the_second)
    assert blind.wait() == [2, 2]
    assert "find other checkpoints in" in blind.said(0) and "[6, None]" in blind.said(0)


def begun(said: Callable[[], str], log: Path) -> None:
    """Wait until steps are made."""
    deadline = time.monotonic() + HANGS
    while not log.exists() or log.stat().st_size == 0:
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)


@pytest.mark.parametrize("victim", [0, 1])
def test_the_others_end_soon_where_one_is_killed(
    settings: Settings, tmp_path: Path, victim: int
) -> None:
    processes = Processes(settings(tmp_path / "run", iterations=100_000), tmp_path / "logs")
    begun(lambda: processes.said(0), tmp_path / "run/log.jsonl")
    os.kill(processes.all[victim].pid, signal.SIGKILL)
    codes = processes.wait(SOON)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 1
    said = processes.said(1 - victim)
    assert "has lost another process of this run (" in said and ".cc:" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("asked", [0, 1])
def test_all_processes_stop_at_the_same_step_where_one_is_asked_to(
    settings: Settings, tmp_path: Path, asked: int
) -> None:
    processes = Processes(settings(tmp_path / "run", iterations=100_000), tmp_path / "logs")
    begun(lambda: processes.said(0), tmp_path / "run/log.jsonl")
    os.kill(processes.all[asked].pid, signal.SIGTERM)
    assert processes.wait(SOON) == [143, 143]
    assert "--resume auto goes on from here" in processes.said(0)
    assert ("as another process was asked to" in processes.said(0)) == (asked == 1)
    (saved,) = (tmp_path / "run").glob("chkpnt*.pth")
    step = load_checkpoint(saved)["iteration"]
    assert saved.name == f"chkpnt{step}.pth" and f"stopped at step {step}" in processes.said(0)


def test_torchrun_starts_the_processes_and_an_interrupt_stops_them_once(
    settings: Settings, tmp_path: Path
) -> None:
    """A terminal sends the signal to all, and torchrun passes it on: saving must survive that."""
    typed = settings(tmp_path / "run", iterations=100_000)
    (tmp_path / "settings.json").write_text(json.dumps(typed))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["train.py", "--config_file", str(tmp_path / "settings.json")]
    with open(tmp_path / "said", "wb") as stream:
        started = subprocess.Popen(
            command, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        begun(lambda: (tmp_path / "said").read_text(), tmp_path / "run/log.jsonl")
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(SOON) != 0
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
    assert (tmp_path / "said").read_text().count("stopped at step") == 1
    (saved,) = (tmp_path / "run").glob("chkpnt*.pth")
    load_checkpoint(saved)
