# SPDX-License-Identifier: Apache-2.0
"""A decoder on other splats: its own run back again, and what stays as it is while others learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from arguments.evaluation import EvaluationParams
from arguments.reproduction import parse_reproduction_arguments
from iqgs.engine.checkpoint import find_method, load_method
from iqgs.engine.opening import open_run
from iqgs.engine.reproduction.command import reproduce
from iqgs.engine.scoring.results import evaluate_runs
from iqgs.engine.scoring.run_scores import SWAPPED
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from tests.engine.blobs import write_blobs
from tests.engine.conftest import SHORT
from tests.engine.test_reproduction import Played, write_maps
from utils.errors import UserError

SPLATS = {"iterations": 300, "densify_until_iter": 200, "splat_cap": 600, "sh_interval": 100}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`own` on a small scene, with a decoder that learned something."""
    folder = tmp_path_factory.mktemp("transfer")
    source = write_blobs(folder / "scene")
    more = {"source_path": str(source), "instance_iterations": 150, "pixels_per_step": 512}
    config = {**SHORT, **SPLATS, **more, "model_path": str(folder / "own")}
    assert train(resolve_run(config)) == 0
    return folder


def swapped_scores(target: Path, decoder: Path) -> dict[str, float]:
    params = EvaluationParams(model_paths=(str(target),), decoder=str(decoder), quiet=True)
    _, code = evaluate_runs(params)
    assert code == 0
    results = json.loads((target / "results.json").read_text())
    return dict(results[SWAPPED + decoder.name]["test"])


def test_a_run_with_its_own_decoder_scores_as_before(runs: Path) -> None:
    own = runs / "own"
    params = EvaluationParams(model_paths=(str(own),), matching="scene", vote=False, quiet=True)
    assert evaluate_runs(params)[1] == 0
    before = json.loads((own / "results.json").read_text())["ours_450"]["test"]
    again = swapped_scores(own, own)
    for name in ("mIoU_pred", "mIoU_gt", "PQ", "PQ_scene"):
        assert again[name] == before[name]
    assert before["mIoU_gt"] > 0.5


def test_the_attribute_is_learned_for_a_decoder_that_stays(runs: Path, tmp_path: Path) -> None:
    source = open_run(runs / "own").config.model.source_path
    ply = runs / "own" / "point_cloud" / "iteration_300" / "point_cloud.ply"
    more = {"source_path": source, "start_ply": str(ply), "decoder": str(runs / "own")}
    config = {**SHORT, **more, "instance_iterations": 150, "pixels_per_step": 512, "seed": 7}
    assert train(resolve_run({**config, "model_path": str(tmp_path / "run")})) == 0
    paths = [runs / "own/point_cloud/iteration_450", tmp_path / "run/point_cloud/iteration_150"]
    one, two = (load_method(found) for path in paths if (found := find_method(path)))
    learned = dict(one.method.named_parameters())  # type: ignore[attr-defined]
    for name, value in two.method.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(value, learned[name]), name
    run = open_run(tmp_path / "run")
    assert run.iteration == 150
    params = EvaluationParams(model_paths=(str(tmp_path / "run"),), vote=False, quiet=True)
    assert evaluate_runs(params)[1] == 0
    found = json.loads((tmp_path / "run/results.json").read_text())["ours_150"]["test"]
    assert found["mIoU_gt"] > 0.5  # from other random attributes to the same ids


def test_decoders_that_do_not_fit_are_refused(runs: Path, tmp_path: Path) -> None:
    own = runs / "own"
    source = open_run(own).config.model.source_path
    ply = own / "point_cloud" / "iteration_300" / "point_cloud.ply"
    common = {**SHORT, "source_path": source, "start_ply": str(ply), "decoder": str(own)}
    with pytest.raises(UserError, match="is of --method iqgs, not gaussian-grouping"):
        train(
            resolve_run(
                {**common, "method": "gaussian-grouping", "model_path": str(tmp_path / "a")}
            )
        )
    with pytest.raises(UserError, match="channels"):
        train(resolve_run({**common, "instance_dim": 8, "model_path": str(tmp_path / "b")}))


def test_a_decoder_needs_splats_to_learn_on() -> None:
    with pytest.raises(UserError, match="given together with --start_ply"):
        resolve_run({**SHORT, "source_path": "x", "decoder": "y"})


def test_table_2_has_a_row_for_each_way(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_maps(tmp_path / f"data/{name}/object_mask", [np.array([[0, 1], [2, 3]])])
    words = f"--table table2 --data {tmp_path / 'data'} -o {tmp_path / 'out'} --methods iqgs"
    played = TransferPlayed()
    page, code = reproduce(parse_reproduction_arguments(words.split()), played)
    assert code == 0, page
    for way in ("shared seed", "own seeds", "frozen decoder", "random decoder"):
        assert f"| two to one | iqgs, {way} | 2dgs | mIoU_gt | scene |" in page
    frozen = [c for c in played.commands if c[0] == "train.py" and "--decoder" in c]
    assert len(frozen) == 1
    other = frozen[0][frozen[0].index("--decoder") + 1]
    assert other.endswith("runs/two/2dgs/seed0/iqgs-exact")
    swapped = [c for c in played.commands if c[0] == "evaluate.py" and "--decoder" in c]
    assert [c[c.index("--decoder") + 1].split("runs/")[1] for c in swapped] == [
        "two/2dgs/seed0/iqgs-exact",
        "two/2dgs/seed1/iqgs-exact",
        "two/2dgs/seed1/iqgs-untrained-exact",
    ]
    again = TransferPlayed()
    assert reproduce(parse_reproduction_arguments(words.split()), again) == (page, 0)
    assert not again.commands
    told = parse_reproduction_arguments([*words.split(), "--report"])
    assert reproduce(told, again) == (page, 0)
    with pytest.raises(UserError, match="name two --scenes"):
        reproduce(parse_reproduction_arguments([*words.split(), "--scenes", "one"]), Played())


class TransferPlayed(Played):
    """Also answers for swapped decoders."""

    def __call__(self, command, log_file):  # type: ignore[no-untyped-def]
        outcome = super().__call__(command, log_file)
        if command[0] == "evaluate.py" and "--decoder" in command:
            model = Path(command[command.index("-m") + 1])
            other = Path(command[command.index("--decoder") + 1]).name
            scores = {"mIoU_pred": 0.1, "mIoU_gt": 0.1, "PQ": 0.1, "PQ_scene": 0.1}
            results = {SWAPPED + other: {"test": scores}}
            (model / "results.json").write_text(json.dumps(results))
        return outcome
