# SPDX-License-Identifier: Apache-2.0
"""The sections of `python -m tests.benchmarks`. Adding one is one line at the end of this file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks import (
    cached_weights,
    commands,
    growth,
    image_loss,
    kernel_times,
    mask_loss,
    memory,
    rasterizer,
    rasterizer_cuda,
    step_kernels,
    training_step,
)
from tests.benchmarks.options import Options
from tests.benchmarks.tables import Table


@dataclass(frozen=True)
class Section:
    """A group of tables; `run` returns none where the machine lacks what it needs."""

    title: str
    run: Callable[[Options], Sequence[Table]]


SECTIONS: dict[str, Section] = {
    "rasterizer": Section("The rasterizer beside torch, CPU", rasterizer.run),
    "rasterizer-cuda": Section("The rasterizer beside gsplat, GPU", rasterizer_cuda.run),
    "growth": Section("Growth with the size of the task", growth.run),
    "cached-weights": Section("Frozen geometry through stored weights", cached_weights.run),
    "image-loss": Section("The image losses", image_loss.run),
    "mask-loss": Section("The mask losses", mask_loss.run),
    "step-kernels": Section("What a step does to all splats and pixels", step_kernels.run),
    "kernel-times": Section("Every kernel alone, GPU", kernel_times.run),
    "training-step": Section("A training step by parts", training_step.run),
    "commands": Section("Whole commands", commands.run),
    "memory": Section("Peak memory of a training step", memory.run),
}
