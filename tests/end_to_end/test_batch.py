# SPDX-License-Identifier: Apache-2.0
"""The batch scripts on folders laid out like LERF-Mask and 360_v2, with a trainer that records.

The recorder stands in for the interpreter (`IQGS_PYTHON`), so these tests are about the flags, what
is skipped, what goes on, and what a failure does; `test_batch_training.py` really trains.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LERF = ("figurines", "ramen", "teatime")
NOTHING = "matches nothing"
MIP360 = ("bonsai", "counter", "kitchen", "room")

RECORDER = """#!/usr/bin/env bash
# writes its arguments down; a scene named in BREAKS fails, the rest leaves the files of a run
echo "$@" >>"$RECORD"
case "$1" in
  train.py) [[ "$*" == *"$BREAKS"* ]] && { echo "error: no sparse/0" >&2; exit 2; }
            [[ "$*" == *"$KILLED"* ]] && exit 130
            [[ "$*" == *"$SLOW"* ]] && sleep 100
            mkdir -p "$5" ;;
  evaluate.py) echo '{"ours_10": {"test": {"PSNR": 30.5, "mIoU_pred": 0.91, "mIoU_gt": 0.5}},
                       "vote_10": {"test": {"PSNR": 1}}, "ours_9": {"test": {"PSNR": 2}}}' \\
            >"$3/results.json" ;;
  *summary.py) exec "$REAL" "$@" ;;
esac
exit 0
"""


class Batch:
    """A data folder with empty scenes, and the runs of the scripts over it."""

    def __init__(self, folder: Path, scenes: tuple[str, ...]) -> None:
        self.data, self.out = folder / "data of mine", folder / "out"
        self.record = folder / "record.txt"
        self.recorder = folder / "python"
        self.recorder.write_text(RECORDER)
        self.recorder.chmod(0o755)
        for scene in scenes:
            (self.data / scene).mkdir(parents=True)

    def run(self, script: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.record.write_text("")
        surroundings = {
            **os.environ,
            "IQGS_PYTHON": str(self.recorder),
            "RECORD": str(self.record),
            "REAL": sys.executable,
            "BREAKS": NOTHING,
            "KILLED": NOTHING,
            "SLOW": NOTHING,
            **environment,
        }
        return subprocess.run(
            ["bash", str(ROOT / "scripts" / script), str(self.data), str(self.out), *flags],
            capture_output=True,
            text=True,
            env=surroundings,
            cwd="/",
            timeout=60,
        )

    def calls(self, program: str) -> list[str]:
        return [line for line in self.record.read_text().splitlines() if line.startswith(program)]


@pytest.fixture
def lerf(tmp_path: Path) -> Batch:
    return Batch(tmp_path, LERF)


def test_lerf_trains_all_scenes_at_full_size_with_its_own_split(lerf: Batch) -> None:
    done = lerf.run("train_lerf.sh", "--preset", "paper")
    assert done.returncode == 0, done.stderr
    calls = lerf.calls("train.py")
    assert [call.split(" -m ")[0] for call in calls] == [
        f"train.py -s {lerf.data / scene}" for scene in LERF
    ]
    assert all(call.endswith("-r 1 --train_split --preset paper") for call in calls)
    assert len(lerf.calls("render.py")) == len(lerf.calls("evaluate.py")) == 3
    table = done.stdout.splitlines()[-5:]
    assert table[0].split()[:3] == ["scene", "state", "split"]
    assert table[1].split()[0] == "figurines" and table[1].split()[3:] == [
        "test",
        "30.500",
        "-",
        "91.00",
        "50.00",
        "-",
    ]
    assert table[-1].split()[:3] == ["mean", "of", "3"]


def test_360_takes_half_resolution_and_every_eighth_view(tmp_path: Path) -> None:
    batch = Batch(tmp_path, MIP360)
    done = batch.run("train_360_v2.sh", "--no_masks")
    assert done.returncode == 0, done.stderr
    calls = batch.calls("train.py")
    assert len(calls) == 4 and all("--images images_2 --eval --no_masks" in call for call in calls)


@pytest.mark.fault(row=43)
def test_one_failure_does_not_stop_the_rest_and_shows_in_the_exit_code(lerf: Batch) -> None:
    done = lerf.run("train_lerf.sh", BREAKS="ramen")
    assert done.returncode == 1
    assert len(lerf.calls("train.py")) == 3 and len(lerf.calls("evaluate.py")) == 2
    assert "ramen: FAILED with exit code 2: error: no sparse/0" in done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("ramen  "))
    assert "FAILED (2)" in line and "91.00" not in line


@pytest.mark.fault(row=43)
def test_finished_scenes_are_skipped_and_interrupted_ones_go_on(lerf: Batch) -> None:
    assert lerf.run("train_lerf.sh", BREAKS="ramen").returncode == 1
    (lerf.out / "ramen").mkdir()
    (lerf.out / "ramen" / "chkpnt20.pth").touch()
    done = lerf.run("train_lerf.sh")
    assert done.returncode == 0, done.stderr
    calls = lerf.calls("train.py")
    assert len(calls) == 1 and "ramen" in calls[0] and calls[0].endswith("--resume auto")
    assert "finished before" in done.stdout


def test_a_run_without_checkpoint_starts_anew(lerf: Batch) -> None:
    (lerf.out / "teatime").mkdir(parents=True)
    assert lerf.run("train_lerf.sh", SCENES="teatime").returncode == 0
    assert lerf.calls("train.py")[0].endswith("--train_split --overwrite")


def test_a_missing_scene_is_a_failure_of_that_scene(lerf: Batch) -> None:
    done = lerf.run("train_lerf.sh", SCENES="nowhere teatime")
    assert done.returncode == 1 and "no folder" in done.stderr
    assert len(lerf.calls("evaluate.py")) == 1


def test_an_interrupt_ends_the_batch(lerf: Batch) -> None:
    done = lerf.run("train_lerf.sh", KILLED="figurines")
    assert done.returncode == 130 and "goes on from here" in done.stderr
    assert len(lerf.calls("train.py")) == 1


def test_a_scene_that_takes_too_long_fails_and_stops_no_other(lerf: Batch) -> None:
    done = lerf.run("train_lerf.sh", LIMIT_MINUTES="0.1", SLOW="ramen")
    assert done.returncode == 1
    assert "ramen: FAILED with exit code 124: error: it took longer than LIMIT_MI" in done.stderr
    assert len(lerf.calls("train.py")) == 3 and len(lerf.calls("evaluate.py")) == 2
    wrong = lerf.run("train_lerf.sh", LIMIT_MINUTES="an hour")
    assert wrong.returncode == 2 and "LIMIT_MINUTES must be a number of minutes" in wrong.stderr


def test_a_missing_data_folder_is_a_usage_error(tmp_path: Path) -> None:
    batch = Batch(tmp_path, ())
    done = batch.run("train_360_v2.sh")
    assert done.returncode == 2 and str(batch.data) in done.stderr


def test_help_tells_the_layout() -> None:
    for script in ("train_lerf.sh", "train_360_v2.sh"):
        done = subprocess.run(
            ["bash", str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0 and "DATA_ROOT" in done.stdout and "set -e" not in done.stdout
