# SPDX-License-Identifier: Apache-2.0
"""Where the time of a training step goes, part by part, for both stages."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from iqgs.criterion import total_loss
from iqgs.engine.instances import InstanceLearning, view_labels
from iqgs.engine.reconstruction import Reconstruction
from iqgs.engine.stages import step_generator
from iqgs.engine.training import learn_instances, reconstruct
from iqgs.engine.weight_cache import sample_pixels
from tests.benchmarks.options import Options
from tests.benchmarks.scenes import QUICK, STANDARD, SceneSize
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import Meter
from tests.benchmarks.training_scene import make_training

WARM_UPS = 2
# The demo's choices of what a step looks at.
INSTANCE_SETTINGS = {"pixels_per_step": 2048, "attention_pixels": 2048, "num_queries": 64}


class Parts:
    """Milliseconds of the named parts of each step."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.times: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Run a part and note how long it took."""
        result, milliseconds, _ = self._meter.measure(work)
        self.times.setdefault(name, []).append(milliseconds)
        return result

    def table(self, title: str) -> Table:
        """Median of each part and its share of the step."""
        medians = {name: statistics.median(times) for name, times in self.times.items()}
        total = sum(medians.values())
        rows = [
            {"name": name, "ms": value, "percent": 100 * value / total}
            for name, value in medians.items()
        ]
        rows.append({"name": "whole step", "ms": total, "percent": 100.0})
        return Table(title, rows)


def reconstruction_step(stage: Reconstruction, iteration: int, parts: Parts) -> None:
    """`Reconstruction.step`, part by part."""
    stage.prepare(iteration)
    view = stage.scene.train[stage.sampler.draw()]
    rendered = parts.time("render", lambda: stage.render_view(view, iteration))
    terms = parts.time("loss", lambda: stage.terms(rendered, view, iteration))
    total = total_loss(terms, stage.weights(iteration))
    parts.time("backward of all", total.backward)
    parts.time("optimizer, densification", lambda: stage.advance(iteration, rendered))


def instance_step(stage: InstanceLearning, iteration: int, parts: Parts) -> None:
    """`InstanceLearning.step`, part by part."""
    index = stage.sampler.draw()
    generator = step_generator(stage.config.train.seed, iteration, 2)
    view, count = stage.cache.view(index), stage.options.pixels_per_step
    sampled = parts.time("sample pixels", lambda: sample_pixels(view, count, generator))
    labels = view_labels(stage.views[index], sampled.pixels)
    inputs = parts.time(
        "render the attribute", lambda: stage._inputs(sampled, labels, iteration, generator)
    )
    terms = parts.time("decoder and losses", lambda: stage.method.terms(inputs))
    total = total_loss(terms, stage.method.weights)
    parts.time("backward of all", total.backward)
    parts.time("optimizer", stage.optimizer.step)
    stage.optimizer.zero_grad(set_to_none=True)


def table(name: str, size: SceneSize, options: Options, meter: Meter) -> Table:
    """The parts of one stage's step."""
    settings = INSTANCE_SETTINGS if name == "instances" else {}
    training = make_training(size, meter.device, **settings)
    assert training.method is not None
    training.method.train()
    stage: Any = (learn_instances if name == "instances" else reconstruct)(training)
    step: Callable[..., None] = instance_step if name == "instances" else reconstruction_step
    parts = Parts(meter)
    for turn in range(WARM_UPS + min(options.repeats, 10)):
        if turn == WARM_UPS:
            parts.times.clear()
        step(stage, stage.first + turn, parts)
    return parts.table(f"a step of {name}, {size.name} splats, {meter.name}, wall time")


def run(options: Options) -> list[Table]:
    """Both stages on every device."""
    size = QUICK if options.quick else STANDARD
    return [
        table(name, size, options, meter)
        for meter in options.meters
        for name in ("reconstruction", "instances")
    ]
