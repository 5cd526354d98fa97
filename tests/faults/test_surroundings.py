# SPDX-License-Identifier: Apache-2.0
"""What surrounds a run: locale, rights, optional packages, other processes, settings of a file."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import render
from arguments import RunConfig
from iqgs.engine.training import train
from tests.end_to_end.test_doors import knock
from tests.engine.blobs import write_blobs
from utils.errors import RunError
from utils.run_lock import RunLock
from utils.scalar_log import ScalarLog

MakeConfig = Callable[..., RunConfig]
ROOT = Path(__file__).parents[2]
FEW = ["--iterations=3", "--instance_iterations=3", "--threads=1", "--quiet", "--splat_cap=150"]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.fault(row=36)
def test_a_run_that_would_lose_all_splats_says_so(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"all \d+ splats would be pruned at iteration 5.*--op"):
        train(make_config("run", opacity_cull=0.99, checkpoint_iterations=[4]))
    assert (tmp_path / "run/chkpnt4.pth").is_file()


@pytest.mark.fault(row=41)
def test_without_tensorboard_there_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        log = ScalarLog(tmp_path)
        log.write(1, {"a": 2.0})
        log.close()
    assert "no TensorBoard" in caplog.text and records(tmp_path) == [{"iteration": 1, "a": 2.0}]


@pytest.mark.fault(row=41)
@pytest.mark.parametrize("method", ["add_scalar", "add_image", "close"])
def test_a_tensorboard_that_fails_later_costs_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    class Writer:
        def __init__(self, folder: str) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            def call(*_: object) -> None:
                if name == method:
                    raise OSError(28, "No space left on device")

            return call

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = ScalarLog(tmp_path)
    for iteration in (1, 2):
        log.write(iteration, {"a": 2.0})
        log.image(iteration, "b", None)
    log.close()
    assert caplog.text.count("TensorBoard stops here") == 1 and len(records(tmp_path)) == 2


@pytest.mark.fault(row=7)
def test_a_torn_line_of_the_log_swallows_no_record(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"iteration": 1}\n{"iterat')
    log = ScalarLog(tmp_path)
    log.write(2, {})
    log.close()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert lines == ['{"iteration": 1}', '{"iterat', '{"iteration": 2}']


@pytest.mark.fault(row=7)
def test_a_log_on_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    log = ScalarLog.__new__(ScalarLog)
    log._path, log._board = tmp_path / "log.jsonl", None
    log._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(RunError, match="disk full: need 0.0 MB, free .* in "):
        log.write(1, {})
    log.close()


@pytest.mark.fault(row=40)
def test_a_port_that_is_taken_is_passed_over() -> None:
    pytest.importorskip("viser")
    from iqgs.viewer.live import start_server

    first = start_server(18_470)
    second = start_server(first.get_port())
    try:
        assert second.get_port() != first.get_port()
    finally:
        first.stop()
        second.stop()


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING"))
    }
    surroundings |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        list(words), cwd=ROOT, env=surroundings, capture_output=True, text=True, errors="replace"
    )


@pytest.mark.fault(row=44)
def test_a_scene_that_nobody_may_write_under_the_plainest_locale(tmp_path: Path) -> None:
    """ASCII is all that the C locale knows; the scene's folder is mounted without the right to
    write, or at least unchanged where that cannot be."""
    scene = write_blobs(tmp_path / "une scène à part", views=5)
    before = {path: path.stat().st_mtime_ns for path in scene.rglob("*")}
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    run = tmp_path / "läufe/erster"
    train_it = [sys.executable, "train.py", "-s", str(scene), "-m", str(run), *FEW]
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    line = ["unshare", "-rm", "sh", "-c", mount, str(scene)]
    can_mount = shutil.which("unshare") and command(*line, "true").returncode == 0
    done = command(*(line if can_mount else []), *train_it, **plain)
    assert done.returncode == 0, done.stderr
    done = command(sys.executable, "render.py", "-m", str(run), "--quiet", **plain)
    assert done.returncode == 0 and list(run.glob("train/ours_6/renders/*.png")), done.stderr
    assert {path: path.stat().st_mtime_ns for path in scene.rglob("*")} == before


@pytest.mark.fault(row=9)
@pytest.mark.fault(row=48)
def test_a_folder_in_use_and_one_that_cannot_be_written(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import train as door

    words = ["-s", str(blobs), *FEW]
    with RunLock(tmp_path / "run"):
        code, _, err = knock(monkeypatch, capsys, door, *words, "-m", str(tmp_path / "run"))
    assert code == 2 and f"in use by process {os.getpid()}" in err and err.count("\n") == 1
    code, _, err = knock(monkeypatch, capsys, door, *words, "-m", "/proc/version/run")
    assert code == 2 and "/proc/version" in err and "Traceback" not in err


@pytest.mark.fault(row=46)
@pytest.mark.parametrize(
    ("group", "key", "value"),
    [("optimization", "iterations", "many"), ("model", "colour", 3), ("train", "seed", None)],
)
def test_the_settings_of_a_run_are_checked_when_it_is_opened(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    group: str,
    key: str,
    value: object,
) -> None:
    assert train(make_config("run", iterations=1, instance_iterations=0, no_masks=True)) == 0
    path = tmp_path / "run/config.json"
    settings = json.loads(path.read_text())
    settings[group][key] = value
    path.write_text(json.dumps(settings))
    capsys.readouterr()
    code, _, err = knock(monkeypatch, capsys, render, "-m", str(tmp_path / "run"))
    assert code == 2 and key in err and str(path) in err and "Traceback" not in err
