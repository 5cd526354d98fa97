# SPDX-License-Identifier: Apache-2.0
"""A training step of every route, split by part.

The stages run as they do in training; their parts are timed from outside, each without the parts
inside it. On a GPU every part is waited for, so the parts add up to more than a step takes without
looking inside; that time stands in the first row. Threads are those that training would choose.
"""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from diff_surfel_rasterization.backends import native_module
from gaussian_renderer import Renderer
from iqgs.engine.lifting import reblending, weight_cache
from iqgs.engine.stages import instances
from iqgs.engine.stages.joint import JointTraining
from iqgs.engine.stages.protocol import Stage, take_step
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.methods.iqgs.method import IQGS
from tests.benchmarks.options import Options
from tests.benchmarks.scenes import LARGE, QUICK, STANDARD, SceneSize
from tests.benchmarks.tables import Table, Value, quotient
from tests.benchmarks.timing import Meter, Stopwatch, threads_of_torch, usable_processors
from tests.benchmarks.training_scene import OBJECTS, ROUTES, make_training

WARM_UPS = 2  # the cache is filled, the optimizers make their moments
MOST_STEPS = 10
WHOLE, REST = "a whole step", "everything else"


@dataclass(frozen=True)
class Part:
    """A function or method that is timed under a label."""

    label: str
    owner: Any
    attribute: str


class PartTimer:
    """Time of each part without the parts inside it, of the step that is running."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._inside: list[list[float]] = []
        self.times: dict[str, list[float]] = {}  # (wall, processor) milliseconds

    @contextmanager
    def part(self, label: str) -> Iterator[None]:
        """Time what runs inside."""
        self._meter.synchronize()
        watch, inside = Stopwatch.start(), [0.0, 0.0]
        self._inside.append(inside)
        try:
            yield
        finally:
            self._meter.synchronize()
            spent = watch.read()
            self._inside.pop()
            own = self.times.setdefault(label, [0.0, 0.0])
            for index in range(2):
                own[index] += spent[index] - inside[index]
                if self._inside:
                    self._inside[-1][index] += spent[index]

    def timed(self, part: Part) -> Any:
        """The part's function, timed; a static method stays one."""
        function = getattr(part.owner, part.attribute)

        def run(*words: Any, **named: Any) -> Any:
            with self.part(part.label):
                return function(*words, **named)

        static = inspect.getattr_static(part.owner, part.attribute, None)
        return staticmethod(run) if isinstance(static, staticmethod) else run


def native_backwards() -> list[Part]:
    """The backward passes of our own operators, whatever they are called."""
    native = native_module()
    if native is None:
        return []
    package = native.__name__.rpartition(".")[0]
    found = []
    for cls in torch.autograd.Function.__subclasses__():
        if cls.__module__.startswith(package):
            name = "".join(f" {c.lower()}" if c.isupper() else c for c in cls.__name__.strip("_"))
            found.append(Part(f"backward of{name}", cls, "backward"))
    return found


def parts_of(stage: Stage, method: IQGS) -> list[Part]:
    """What a stage's step is made of."""
    whole: Any = stage
    parts = [*native_backwards(), Part("backward of torch", torch.Tensor, "backward")]
    color = stage.color if isinstance(stage, JointTraining) else stage
    if isinstance(color, Reconstruction):
        parts += [
            Part("optimizers", color.optimizer, "step"),
            Part("render", Renderer, "render"),
            Part("image losses", color, "terms"),
            Part("densification signal", color, "take"),
        ]
    if isinstance(stage, JointTraining):
        parts += [
            Part("splat instances", Renderer, "splat"),
            Part("optimizers", stage.decoder_optimizer, "step"),
        ]
    if isinstance(stage, instances.InstanceLearning):
        parts += [
            Part("optimizers", whole.optimizer, "step"),
            *(Part("optimizers", table, "step") for table in whole.tables.values()),
            Part("sample pixels", instances, "sample_pixels"),
            Part("splat instances", weight_cache.SampledPixels, "splat"),
            Part("opacities of instances", reblending.Reblended, "of"),
            Part("splat instances", reblending.Reblended, "splat"),
            Part("splat instances", reblending.Reblended, "splat_still"),
        ]
    if stage.learns_instances:
        parts += [
            Part("decoder", method.projection, "forward"),
            Part("decoder", method.decoder, "forward"),
            Part("matching", type(method.matcher), "__call__"),
            Part("instance losses", type(method.criterion), "__call__"),
        ]
    return parts


def timed_steps(
    stage: Stage, parts: list[Part], meter: Meter, steps: int
) -> dict[str, list[float]]:
    """Medians (wall, processor) of the whole step, not looked into, and of each of its parts."""
    numbers = iter(range(stage.first, stage.first + WARM_UPS + 2 * steps))
    for _ in range(WARM_UPS):
        take_step(stage, next(numbers))
    whole = [meter.measure(lambda: take_step(stage, next(numbers)))[1:] for _ in range(steps)]
    looked: list[dict[str, list[float]]] = []
    for _ in range(steps):
        timer = PartTimer(meter)
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(
                    mock.patch.object(part.owner, part.attribute, timer.timed(part))
                )
            with timer.part(REST):
                take_step(stage, next(numbers))
        looked.append(timer.times)
    labels = dict.fromkeys(label for times in looked for label in times)
    columns = {label: [times.get(label, [0.0, 0.0]) for times in looked] for label in labels}
    return {label: medians(rows) for label, rows in {WHOLE: whole, **columns}.items()}


def medians(rows: Any) -> list[float]:
    """Of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def threads_for(stage: Stage) -> int:
    """As the training loop chooses."""
    return 1 if stage.cheap_steps else usable_processors()


def table(route: str, size: SceneSize, meter: Meter, steps: int) -> Table:
    """One route's step."""
    make, settings = ROUTES[route]
    training = make_training(size, meter.device, **settings)
    assert training.method is not None
    training.method.train()
    stage = make(training)
    with threads_of_torch():
        threads = threads_for(stage)
        torch.set_num_threads(threads)
        times = timed_steps(stage, parts_of(stage, training.method), meter, steps)
    whole = times.pop(WHOLE)
    rest = times.pop(REST)
    total = sum(own[0] for own in times.values()) + rest[0]
    ordered = sorted(times.items(), key=lambda item: -item[1][0])
    rows: list[dict[str, Value]] = [row(WHOLE, whole, None)]
    rows += [row(label, own, quotient(100 * own[0], total)) for label, own in ordered]
    rows.append(row(REST, rest, quotient(100 * rest[0], total)))
    notes = [f"{threads} threads, median of {steps} steps; {OBJECTS} objects"]
    return Table(f"{route} ({size.name} splats, {meter.name})", rows, notes)


def row(label: str, times: list[float], share: float | None) -> dict[str, Value]:
    """A row of the table."""
    return {"name": label, "wall_ms": times[0], "cpu_ms": times[1], "percent": share}


def run(options: Options) -> list[Table]:
    """Every route on every device."""
    tables = []
    for meter in options.meters:
        size = STANDARD if meter.kind == "cpu" else LARGE
        size = QUICK if options.quick or meter.backend == "reference" else size
        steps = min(options.repeats, MOST_STEPS)
        tables += [table(route, size, meter, steps) for route in ROUTES]
    return tables
