# SPDX-License-Identifier: Apache-2.0
"""Runs on the same splats that are scored together: the scores of each alone, less work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arguments.evaluation import EvaluationParams
from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.opening import open_run, scene_facts
from iqgs.engine.run import shown_by, spread_cameras
from iqgs.engine.run_folder import iteration_folder
from iqgs.engine.scoring import run_scores
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.scoring.run_scores import votes_wanted
from iqgs.engine.scoring.shared import Shared, fingerprint, in_groups
from iqgs.engine.settings import resolve_run
from iqgs.engine.stages.fitting import Fitting
from iqgs.engine.training import train
from iqgs.methods import METHODS, build_method
from utils.errors import DataError

from .conftest import LEARNED, SHORT


@pytest.fixture(scope="module")
def made(
    trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """A run, another that learned from a second folder of masks on its splats, and moved splats."""
    folder = tmp_path_factory.mktemp("shared")
    scene, first = folder / "scene", folder / "first"
    shutil.copytree(trained[0], scene)
    shutil.copytree(scene / "object_mask", scene / "other_mask")
    shutil.copytree(trained[1], first)
    about = json.loads((first / "config.json").read_text())
    about["model"]["source_path"] = str(scene)
    (first / "config.json").write_text(json.dumps(about))
    settings = {
        **SHORT,
        **LEARNED,
        "source_path": str(scene),
        "object_path": "other_mask",
        "model_path": str(folder / "second"),
        "start_ply": str(splats_of(first)),
        "instance_iterations": 20,
    }
    assert train(resolve_run(settings)) == 0
    moved = folder / "moved"
    shutil.copytree(first, moved)
    run = open_run(moved)
    run.gaussians.params["means"].data += 0.001
    run.gaussians.save_ply(splats_of(moved), frame=run.frame)
    return first, folder / "second", moved


@pytest.fixture
def runs(made: tuple[Path, Path, Path], tmp_path: Path) -> tuple[Path, Path, Path]:
    """Copies to write in; only the masks that are learned from are shared."""
    copies = tuple(tmp_path / folder.name for folder in made)
    for folder, copy in zip(made, copies, strict=True):
        shutil.copytree(folder, copy)
    return copies[0], copies[1], copies[2]


def splats_of(folder: Path) -> Path:
    return iteration_folder(folder, open_run(folder).iteration) / "point_cloud.ply"


def params_of(*folders: Path) -> EvaluationParams:
    return EvaluationParams(
        model_paths=tuple(map(str, folders)), gt_path="object_mask", quiet=True, format="csv"
    )


def results_of(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def test_runs_on_the_same_splats_score_as_each_alone(
    runs: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = []
    for folder in runs:
        assert evaluate_runs(params_of(folder))[1] == 0
        alone.append(results_of(folder))
        (folder / "results.json").unlink()
    rendered = []
    score = run_scores.score_image
    monkeypatch.setattr(
        run_scores, "score_image", lambda lens, view: rendered.append(1) or score(lens, view)
    )
    assert evaluate_runs(params_of(*runs))[1] == 0
    assert [results_of(folder) for folder in runs] == alone
    views = len(open_run(runs[0]).scene.test)
    assert len(rendered) == 2 * views  # of the first two runs once, and of the moved splats


def test_what_lies_elsewhere_is_another_group(runs: tuple[Path, Path, Path]) -> None:
    groups = list(in_groups(open_run(folder) for folder in runs))
    assert [len(group.runs) for group in groups] == [2, 1]
    one, two = groups[0].runs
    assert one.gaussians.means.data_ptr() == two.gaussians.means.data_ptr()
    assert one.gaussians.instance.data_ptr() != two.gaussians.instance.data_ptr()
    seen = fingerprint(open_run(runs[0], overrides={"white_background": True}))
    assert seen != fingerprint(open_run(runs[0]))


def test_votes_that_are_counted_together_are_those_counted_alone(
    runs: tuple[Path, Path, Path],
) -> None:
    shared = next(in_groups(open_run(folder) for folder in runs[:2]))
    for run in shared.runs:
        (vote,) = shared.votes(run, votes_wanted)
        (alone,) = Shared([run]).votes(run, votes_wanted)
        assert torch.equal(vote.labels, alone.labels)
        assert torch.equal(vote.confidence, alone.confidence)
        assert int(vote.labels.max()) > 0


def test_damaged_masks_of_one_run_fail_that_run_alone(runs: tuple[Path, Path, Path]) -> None:
    first, second, _ = runs
    shared = next(in_groups(open_run(folder) for folder in (first, second)))
    broken = shared.runs[1]
    for run in shared.runs:
        assert run.scene.train  # the files were fine when the scenes were read
    view = broken.scene.train[1]
    view.forget()
    view._read_mask = None
    damaged = second / "damaged.png"
    damaged.write_bytes(b"no picture")
    view.mask_path = damaged
    (vote,) = shared.votes(shared.runs[0], votes_wanted)
    assert int(vote.labels.max()) > 0
    with pytest.raises(DataError):
        shared.votes(broken, votes_wanted)


def test_seen_splats_are_those_that_the_weights_list(runs: tuple[Path, Path, Path]) -> None:
    run = open_run(runs[0])
    far = run.gaussians.params["means"].data
    far[::7] += 50.0
    listed = torch.zeros(len(run.gaussians), dtype=torch.bool)
    for camera in spread_cameras(run):
        listed[run.lens(camera).weights(MIN_WEIGHT).splat.long()] = True
    nothing = torch.zeros(len(run.gaussians), dtype=torch.int64)
    assert torch.equal(shown_by(run, nothing).seen, listed)
    assert 0 < int(listed.sum()) < len(listed)


def test_fitting_reads_ahead_in_order_also_when_it_goes_on(runs: tuple[Path, Path, Path]) -> None:
    run = open_run(runs[0])
    facts = scene_facts(run)
    whole, halves = (build_method("vote", METHODS["vote"].params(), facts) for _ in range(2))
    count = len(run.masked_views())
    run.method = whole
    stage = Fitting(run, 1)
    assert stage.last == count
    for step in range(1, count + 1):
        assert stage.draw(step) == []
    run.method = halves
    for first, last in ((1, 3), (4, count)):  # another process goes on
        stage = Fitting(run, 1)
        for step in range(first, last + 1):
            stage.draw(step)
    whole.finish([])
    halves.finish([])
    assert torch.equal(whole.labels, halves.labels)
    assert torch.equal(stage.seen(), halves.confidence > 0)
    assert bool((whole.labels > 0).any())
