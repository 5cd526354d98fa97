# SPDX-License-Identifier: Apache-2.0
"""Forward and backward times of a differentiable renderer, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from diff_surfel_rasterization import Surfels


@dataclass(frozen=True)
class Row:
    """Medians over the repetitions, milliseconds."""

    name: str
    threads: int
    repeats: int
    forward_ms: float
    backward_ms: float
    forward_cpu_ms: float  # processor time of all threads: what a busy machine distorts least
    backward_cpu_ms: float


@dataclass(frozen=True)
class Stopwatch:
    """Wall and processor time since it was made."""

    wall: float
    cpu: float

    @staticmethod
    def start() -> Stopwatch:
        return Stopwatch(time.perf_counter(), time.process_time())

    def read(self) -> tuple[float, float]:
        """(wall, processor) milliseconds."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return 1000 * wall, 1000 * cpu


def hardware_name() -> str:
    """The processor's own name and how many of them this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        name = found.group(1).strip() if found else name
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {usable} processors"


def time_renderer(
    name: str,
    render: Callable[[Surfels], tuple[Tensor, ...]],
    surfels: Surfels,
    threads: int,
    repeats: int,
) -> Row:
    """Time `render` and its backward with fixed upstream gradients; one run beforehand warms up.

    Backward goes to every tensor of `surfels`; the time of making a loss is not included.
    """
    torch.set_num_threads(threads)
    inputs = [getattr(surfels, f.name) for f in fields(surfels)]
    leaves = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    generator = torch.Generator().manual_seed(1)
    upstream: list[Tensor] | None = None
    times: list[tuple[float, float, float, float]] = []
    for turn in range(repeats + 1):
        for leaf in leaves:
            leaf.grad = None
        watch = Stopwatch.start()
        images = render(surfels)
        forward = watch.read()
        if upstream is None:
            upstream = [torch.randn(image.shape, generator=generator) for image in images]
        watch = Stopwatch.start()
        torch.autograd.backward(images, upstream)
        backward = watch.read()
        if turn > 0:
            times.append((forward[0], backward[0], forward[1], backward[1]))
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return Row(name, threads, repeats, *medians)
