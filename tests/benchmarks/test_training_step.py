# SPDX-License-Identifier: Apache-2.0
"""The split of a training step: parts are found, their times add up, and training is left as is."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diff_surfel_rasterization import available_backends
from gaussian_renderer import Renderer
from iqgs.engine.stages.protocol import take_step
from tests.benchmarks import training_step
from tests.benchmarks.played_gpu import PlayedCuda
from tests.benchmarks.scenes import SceneSize
from tests.benchmarks.timing import CpuMeter, CudaMeter, Meter
from tests.benchmarks.training_scene import ROUTES, block_labels, make_training
from tests.benchmarks.training_step import Part, PartTimer

TINY = SceneSize("24x16, 80", 24, 16, 80, 2.0)


class Steps:
    """A clock that goes on by one each time that it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def test_a_part_is_timed_without_the_parts_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Steps())
    monkeypatch.setattr(time, "process_time", Steps())
    timer = PartTimer(CpuMeter())
    with timer.part("outer"):  # looks at the clock: 1
        with timer.part("inner"):  # 2
            pass  # 3
        with timer.part("inner"):  # 4
            pass  # 5
    # 6: outer took 5 steps of the clock, of which each inner had one
    for index in range(2):
        assert timer.times["outer"][index] == pytest.approx(3.0)
        assert timer.times["inner"][index] == pytest.approx(2.0)


def test_methods_functions_and_static_methods_are_timed_and_answer() -> None:
    class Owner:
        @staticmethod
        def fixed(x: int) -> int:
            return x + 1

        def bound(self, x: int, *, more: int = 0) -> int:
            return x + more

    timer, owner = PartTimer(CpuMeter()), Owner()
    module = SimpleNamespace(free=lambda x: 2 * x)
    fixed = timer.timed(Part("fixed", Owner, "fixed"))
    bound = timer.timed(Part("bound", Owner, "bound"))
    free = timer.timed(Part("free", module, "free"))
    assert isinstance(fixed, staticmethod) and fixed.__func__(1) == 2
    assert bound(owner, 1, more=2) == 3 and free(4) == 8
    assert set(timer.times) == {"fixed", "bound", "free"}


@pytest.mark.parametrize("kind", ["cpu", "played gpu"])
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_split(route: str, kind: str) -> None:
    backend = available_backends()[-2] if len(available_backends()) > 1 else "reference"
    played: Meter = CudaMeter("cpu", backend, PlayedCuda())
    render, backward = Renderer.render, torch.Tensor.backward
    table = training_step.table(route, TINY, CpuMeter() if kind == "cpu" else played, 2)
    labels = [str(row["name"]) for row in table.rows]
    assert labels[0] == training_step.WHOLE and labels[-1] == training_step.REST
    expected = {"backward of torch", "optimizers"}
    if "reconstruction" in route or "joint" in route:
        expected |= {"render", "image losses"}  # nobody listens for a signal: no densification
    if "instances" in route or "joint" in route:
        expected |= {"splat instances", "decoder", "matching", "instance losses"}
    if "instances" in route:
        expected |= {"sample pixels"}
    if "cpu" in available_backends():
        assert any(label.startswith("backward of") and "torch" not in label for label in labels)
    assert expected <= set(labels)
    assert sum(float(row["percent"] or 0) for row in table.rows) == pytest.approx(100)
    assert Renderer.render is render and torch.Tensor.backward is backward


def test_the_made_scene_has_every_object_and_every_query() -> None:
    labels = block_labels(64, 48, 60)
    assert labels.shape == (48, 64) and labels.dtype == np.int32
    assert np.array_equal(np.unique(labels), np.arange(1, 61))
    training = make_training(TINY, "cpu")
    assert training.config.method.num_queries == 300
    stage = ROUTES["reconstruction"][0](training)
    report = take_step(stage, stage.first)
    assert {"l1", "dssim", "normal", "distortion"} <= set(report.terms)
    assert len(training.gaussians) == TINY.splats
