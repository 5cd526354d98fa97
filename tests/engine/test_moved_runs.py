# SPDX-License-Identifier: Apache-2.0
"""The folders of a scene and of its run may move between two commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from arguments import RunConfig
from arguments.evaluation import parse_evaluation_arguments
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.settings import parse_training_arguments
from iqgs.engine.training import train
from utils.errors import UserError

from .blobs import write_blobs

MakeConfig = Callable[..., RunConfig]


def train_by_hand(*words: str) -> int:
    return train(parse_training_arguments("", list(words)))


@pytest.fixture
def moved(make_config: MakeConfig, tmp_path: Path) -> tuple[Path, Path]:
    """(scene, run) that lie elsewhere than when the run was stopped at its tenth step."""
    scene = write_blobs(tmp_path / "before")
    config = make_config("run", source_path=str(scene), checkpoint_iterations=[10])
    assert train(config) == 0
    for step in (20, 40):
        (tmp_path / f"run/chkpnt{step}.pth").unlink()
    shutil.rmtree(tmp_path / "run/point_cloud")
    scene.rename(tmp_path / "after")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    return tmp_path / "after", tmp_path / "elsewhere"


def test_a_stopped_run_goes_on_and_is_scored_where_it_is_now(
    moved: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scene, run = moved
    with pytest.raises(UserError, match="before: no such folder; where is the scene now"):
        train_by_hand("-m", str(run), "--resume", "auto")
    assert train_by_hand("-m", str(run), "-s", str(scene), "--resume", "auto") == 0
    assert (run / "point_cloud/iteration_40/point_cloud.ply").is_file()
    gone = scene.with_name("gone")
    scene.rename(gone)
    text, code = evaluate_runs(*parse_evaluation_arguments(["-m", str(run), "--quiet"]))
    assert code == 1 and "after: no such folder" in text and "-s" in text
    words = ["-m", str(run), "-s", str(gone), "--quiet", "--threads", "1"]
    text, code = evaluate_runs(*parse_evaluation_arguments(words))
    assert code == 0 and "mIoU_gt" in text


@pytest.mark.fault(row=6)
def test_a_run_does_not_go_on_with_another_scene(moved: tuple[Path, Path], tmp_path: Path) -> None:
    for name, views in (("fewer", 8), ("others", 9)):
        other = write_blobs(tmp_path / name, views=views)
        if name == "others":  # the same names, but one camera stands elsewhere
            poses = other / "sparse/0/images.bin"
            data = bytearray(poses.read_bytes())
            data[12 + 6 * 8 + 6] ^= 8  # the last number of a translation
            poses.write_bytes(bytes(data))
        with pytest.raises(UserError, match="cannot go on.*is this the same scene"):
            train_by_hand("-m", str(moved[1]), "-s", str(other), "--resume", "auto")
