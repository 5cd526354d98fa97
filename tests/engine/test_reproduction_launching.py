# SPDX-License-Identifier: Apache-2.0
"""Commands run in forks, on their GPU, and as jobs of a cluster."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest

from arguments.reproduction import parse_reproduction_arguments
from iqgs.engine.reproduction.command import reproduce
from iqgs.engine.reproduction.launching import (
    ForkedRunner,
    Outcome,
    Runner,
    run_subprocess,
    slurm_executor,
)
from tests.engine.test_reproduction import Played, write_maps
from utils.errors import UserError


@pytest.fixture(params=[run_subprocess, ForkedRunner()], ids=["new", "forked"])
def run(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.param
    return runner


def test_a_command_leaves_its_code_words_and_memory(run: Runner, tmp_path: Path) -> None:
    write_maps(tmp_path / "mine/object_mask", [np.array([[1, 2]])])
    command = ["scripts/degrade_masks.py", str(tmp_path / "mine"), "-t"]
    fine = run([*command, "worse"], tmp_path / "log")
    assert fine.code == 0 and fine.words == str(tmp_path / "mine/worse")
    assert fine.peak > 20 and 0 < fine.cpu < 60
    wrong = run([*command, "object_mask"], tmp_path / "log")
    assert wrong.code == 2 and wrong.words.startswith("error: ")
    assert len((tmp_path / "log").read_text().splitlines()) >= 2, "appended"


def test_a_command_that_breaks_is_told_from_one_that_refuses(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise OSError('the disk is made of cheese')")
    (tmp_path / "killed.py").write_text("import os; os.kill(os.getpid(), 9)")
    broken = run([str(tmp_path / "broken.py")], tmp_path / "log")
    assert broken.code == 1 and broken.words == "OSError: the disk is made of cheese"
    killed = run([str(tmp_path / "killed.py")], tmp_path / "other_log")
    assert killed.code == -9 and killed.words == "it said nothing"


def test_commands_that_run_together_have_each_a_gpu(tmp_path: Path) -> None:
    script = tmp_path / "asks.py"
    script.write_text(
        "import os, sys, time\n"
        "open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "while not all(os.path.exists(path) for path in sys.argv[1:]): time.sleep(0.01)\n"
    )
    names = [str(tmp_path / name) for name in ("one", "two", "three")]
    run = ForkedRunner(jobs=3, gpus=3)
    with ThreadPoolExecutor(3) as pool:
        commands = [[str(script), name, *names] for name in names]
        logs = [tmp_path / f"log{number}" for number in range(3)]
        assert [outcome.code for outcome in pool.map(run, commands, logs)] == [0, 0, 0]
    assert sorted(Path(name).read_text() for name in names) == ["0", "1", "2"]


def test_whoever_starts_a_command_does_not_take_the_exit_code_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting a process looks after all others: here one does between the sign that the first
    has ended and the moment in which its exit code is read (python/cpython#130895)."""
    read, calls = forkserver.read_signed, itertools.count()
    reading, between = threading.Event(), threading.Event()

    def interrupted(descriptor: int) -> int:
        number = next(calls)  # 0: the process id of the first, 1: its exit code
        if number == 1:
            reading.set()
            between.wait(0.5)
        code: int = read(descriptor)
        if number > 1:
            between.set()
        return code

    monkeypatch.setattr(forkserver, "read_signed", interrupted)
    (tmp_path / "ends.py").write_text("")
    run = ForkedRunner(jobs=2, gpus=0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, [str(tmp_path / "ends.py")], tmp_path / "log")
        assert reading.wait(60)
        assert run([str(tmp_path / "ends.py")], tmp_path / "other").code == 0
    assert first.result().code == 0


def test_commands_whose_fork_server_is_killed_end_by_their_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """multiprocessing knows no exit code then, and says at once that they have ended."""
    server = forkserver.ForkServer()  # others need theirs
    server.set_forkserver_preload(["iqgs.engine.reproduction.launching"])
    monkeypatch.setattr(forkserver, "connect_to_new_process", server.connect_to_new_process)
    (tmp_path / "waits.py").write_text(
        "import os, sys, time\nopen(sys.argv[1], 'w')\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
        "print('done')\nsys.exit(int(sys.argv[3]))\n"
    )
    begun, go, run = [tmp_path / "0", tmp_path / "3"], tmp_path / "go", ForkedRunner(2, gpus=0)
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(
                run, [str(tmp_path / "waits.py"), str(x), str(go), x.name], x.with_suffix(".log")
            )
            for x in begun
        ]
        while not all(x.exists() for x in begun) and not any(x.done() for x in running):
            time.sleep(0.01)
        os.kill(server._forkserver_pid, signal.SIGKILL)
        os.waitpid(server._forkserver_pid, 0)
        time.sleep(0.2)  # to be wrong in
        early = any(x.done() for x in running)
        go.touch()
        found = [x.result() for x in running]
    assert not early, "they still run"
    assert [(x.code, x.words, x.peak > 0) for x in found] == [(0, "done", True), (3, "done", True)]


def answer(command: list[str], log_file: Path) -> Outcome:
    """`Played`, as a function that a job can import."""
    return Played()(command, log_file)


def test_cells_are_jobs_of_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="pip install submitit runs this test")
    write_maps(tmp_path / "data/blobs/object_mask", [np.array([[0, 1], [2, 3]])] * 3)
    words = f"--data {tmp_path / 'data'} -o {tmp_path / 'out'} --methods iqgs vote --masks exact"
    params = parse_reproduction_arguments([*words.split(), "--slurm", "cluster=local"])
    page, code = reproduce(params, answer)
    assert code == 0 and "| blobs | vote | 2dgs | PQ | id | 50.0 |" in page
    jobs = list((tmp_path / "out/slurm").glob("*_result.pkl"))
    assert len(jobs) == 3  # the splats and two cells
    assert reproduce(params, answer) == (page, 0)
    assert len(list((tmp_path / "out/slurm").glob("*_result.pkl"))) == 3, "what is done is no job"
    table = json.loads((tmp_path / "out/data-2dgs/table1.json").read_text())
    assert len(table["cells"]) == 2


def test_settings_of_a_cluster_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="pip install submitit runs this test")
    with pytest.raises(UserError, match="name=value"):
        slurm_executor(tmp_path, ("now",))
    with pytest.raises(UserError, match="--slurm cluster=local colour=red"):
        slurm_executor(tmp_path, ("cluster=local", "colour=red"))
