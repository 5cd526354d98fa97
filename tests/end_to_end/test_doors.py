# SPDX-License-Identifier: Apache-2.0
"""The doors as a shell sees them: one sentence, an exit code, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
import render
import train
from scripts import check_masks, generate_masks, prepare_masks
from tests.engine.blobs import IDS, write_blobs
from utils.entry import run_command

ROOT = Path(__file__).parents[2]
SHORT = [
    "--eval",
    "--quiet",
    "--iterations",
    "60",
    "--instance_iterations",
    "40",
    "--pixels_per_step",
    "256",
    "--splat_cap",
    "300",
    "--background_seeds",
    "0",
    "--threads",
    "1",
]


def knock(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    door: object,
    *arguments: str,
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a door with these arguments."""
    monkeypatch.setattr(sys, "argv", ["door.py", *arguments])
    code = run_command(door.main)  # type: ignore[attr-defined]
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("door", "arguments", "said"),
    [
        (train, ["--iteratoins", "3"], "--iteratoins"),
        (train, [], "-s/--source_path is missing"),
        (train, ["-s", "nowhere", "-m", "{run}"], "nowhere"),
        (train, ["-s", "{scene}", "-m", "{run}", "-o", "no_masks_here"], "no_masks_here"),
        (train, ["-s", "{scene}", "-m", "{run}", "--num_queries", "3"], "--num_queries"),
        (train, ["-s", "{scene}", "-m", "{run}", "--iterations", "0"], "--iterations"),
        (train, ["-s", "{scene}", "-m", "{run}", "--config_file", "no.json"], "no.json"),
        (train, ["-s", "{scene}", "-m", "{run}", "--start_ply", "no.ply"], "no.ply"),
        (train, ["-s", "{scene}", "-m", "{run}", "--start_checkpoint", "no.pth"], "no.pth"),
        (train, ["-s", "{scene}", "-m", "{run}", "--images", "photos"], "photos"),
        (render, [], "model_path"),
        (render, ["-m", "nowhere"], "nowhere"),
        (generate_masks, [], "source_path (-s)"),
        (generate_masks, ["-s", "nowhere"], "nowhere"),
        (generate_masks, ["-s", "{scene}"], "--checkpoint must name the weights of SAM"),
        (prepare_masks, ["-s", "{scene}"], "holds masks already"),
        (check_masks, ["-s", "{scene}", "--import_path", "nowhere"], "--convert"),
        (evaluate, [], "model_paths"),
        (evaluate, ["-m", "x", "--protocol", "best"], "--protocol"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    door: object,
    arguments: list[str],
    said: str,
) -> None:
    scene = write_blobs(tmp_path / "scene", views=4)
    named = [text.format(scene=scene, run=tmp_path / "run") for text in arguments]
    code, _, err = knock(monkeypatch, capsys, door, *named)
    assert code == 2
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert "Traceback" not in err


@pytest.mark.fault(row=38)
def test_a_gpu_that_is_not_there_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_blobs(tmp_path / "scene", views=4)
    arguments = ["-s", str(scene), "-m", str(tmp_path / "run"), "--device", "cuda"]
    code, _, err = knock(monkeypatch, capsys, train, *arguments)
    assert code == 2 and "--device cuda cannot be used" in err


@pytest.mark.fault(row=44)
def test_train_render_evaluate_on_a_folder_of_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's three commands, on a path with a space and a letter beyond ASCII."""
    scene = write_blobs(tmp_path / "my scène", views=8)
    run = tmp_path / "my run"
    assert knock(monkeypatch, capsys, train, "-s", str(scene), "-m", str(run), *SHORT)[0] == 0
    code, out, _ = knock(monkeypatch, capsys, render, "-m", str(run), "--masks", "--quiet")
    assert code == 0 and out
    folder = run / "test/ours_100"
    ids = np.asarray(Image.open(folder / "objects_id/000.png"))
    assert set(np.unique(ids).tolist()) <= {0, *IDS}
    for name in ("renders", "gt", "concat", "objects_pred", "normals"):
        assert (folder / name / "000.png").is_file()
    code, out, _ = knock(monkeypatch, capsys, evaluate, "-m", str(run))
    assert code == 0 and "mIoU_pred" in out
    assert "ours_100" in json.loads((run / "results.json").read_text())


def test_the_command_itself_ends_without_a_traceback(tmp_path: Path) -> None:
    """Once through a real process: the interpreter's own exit code and streams."""
    done = subprocess.run(
        [sys.executable, "train.py", "-s", str(tmp_path / "no scene")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "no scene" in done.stderr
