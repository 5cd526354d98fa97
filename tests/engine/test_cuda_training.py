# SPDX-License-Identifier: Apache-2.0
"""Training on a GPU ends where training on the CPU ends, within what seeds do: `pytest -m cuda`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arguments import RunConfig
from arguments.evaluation import EvaluationParams
from arguments.rendering import RenderParams
from diff_surfel_rasterization import backend_problem
from iqgs.engine import run as runs
from iqgs.engine.opening import open_run
from iqgs.engine.pictures.views import render_run
from iqgs.engine.scoring.run_scores import evaluate_run
from iqgs.engine.training import train
from utils.errors import UserError

MakeConfig = Callable[..., RunConfig]
LENGTH = {"iterations": 200, "instance_iterations": 150, "densify_until_iter": 150}
SEEDS = (0, 1, 2)
# Beyond the spread of three CPU seeds: as much again, and what rounding may do to so small a scene.
SLACK = {"PSNR": 0.3, "mIoU_gt": 0.02}
PROBLEM = backend_problem("cuda")
needs_gpu = pytest.mark.skipif(PROBLEM is not None, reason=f"no CUDA here: {PROBLEM}")


def scores_of(make_config: MakeConfig, device: str, seed: int, route: str) -> dict[str, float]:
    """PSNR and mIoU of the held-out views of a short run; evaluated where it was trained."""
    config = make_config(f"{device}{seed}{route}", device=device, seed=seed, route=route, **LENGTH)
    assert train(config) == 0
    run = open_run(config.model.model_path, device=device)
    values = evaluate_run(run, EvaluationParams(model_paths=(config.model.model_path,)))[0].values
    return {name: float(values[name]) for name in SLACK}


def within(found: float, seeds: list[float], slack: float) -> bool:
    """Whether a score is no farther from those of the seeds than they are from each other."""
    spread = max(seeds) - min(seeds)
    return min(seeds) - spread - slack <= found <= max(seeds) + spread + slack


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("route", ["two-stage", "joint"])
def test_training_on_a_gpu_reaches_what_seeds_reach(make_config: MakeConfig, route: str) -> None:
    by_seed = [scores_of(make_config, "cpu", seed, route) for seed in SEEDS]
    found = scores_of(make_config, "cuda", SEEDS[0], route)
    for name, slack in SLACK.items():
        assert within(found[name], [scores[name] for scores in by_seed], slack), (found, by_seed)


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("route", ["two-stage", "joint"])
def test_a_run_goes_on_on_a_gpu(make_config: MakeConfig, tmp_path: Path, route: str) -> None:
    """Started on the CPU, resumed on the GPU, rendered there: nothing is left on the wrong side."""
    train(make_config("run", route=route, device="cpu", checkpoint_iterations=[10]))
    checkpoint = str(tmp_path / "run" / "chkpnt10.pth")
    going_on = make_config("on", route=route, device="cuda", start_checkpoint=checkpoint)
    assert train(going_on) == 0
    run = open_run(tmp_path / "on", device="cuda")
    assert run.gaussians.device.type == "cuda"
    assert render_run(run, RenderParams(model_path=str(tmp_path / "on"), quiet=True))


def test_a_short_run_is_long_enough_to_tell_right_from_wrong(make_config: MakeConfig) -> None:
    """The yardstick of the tests above: seeds agree, an untrained scene lies outside."""
    by_seed = [scores_of(make_config, "cpu", seed, "two-stage") for seed in SEEDS]
    for name, slack in SLACK.items():
        seeds = [scores[name] for scores in by_seed]
        assert within(seeds[0], seeds, slack) and not within(0.5 * seeds[0], seeds, slack), seeds


@pytest.mark.parametrize("has_gpu", [False, True])
def test_asking_for_cuda_in_vain_names_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_gpu: bool
) -> None:
    why = "the rasterizer was built for the CPU only (no nvcc is found); install one"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(runs, "backend_problem", lambda backend: why)
    expected = why if has_gpu else "torch sees no GPU; use --device cpu"
    with pytest.raises(UserError, match=re.escape(f"--device cuda cannot be used: {expected}")):
        runs.choose_device("cuda")
    assert runs.choose_device("auto").type == "cpu" and runs.choose_device("cpu").type == "cpu"
    assert [why in record.getMessage() for record in caplog.records] == [True] * has_gpu


def test_auto_takes_a_gpu_that_the_rasterizer_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runs, "backend_problem", lambda backend: None)
    assert runs.choose_device("auto").type == runs.choose_device("cuda").type == "cuda"
    assert runs.choose_device("cpu").type == "cpu"
