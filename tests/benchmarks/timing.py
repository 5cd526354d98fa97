# SPDX-License-Identifier: Apache-2.0
"""Forward and backward times of differentiable renderers, on the CPU and on a GPU.

On the CPU a time is wall and processor time; on a GPU it is what lies between two events of the
stream, and the host's processor time. Candidates take turns, so that whatever else the machine does
falls on all of them alike; a row holds the medians.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from diff_surfel_rasterization import Splats

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """Medians over the repetitions, milliseconds."""

    name: str
    threads: int
    repeats: int
    forward_ms: float  # wall on a CPU, between events on a GPU
    backward_ms: float
    forward_cpu_ms: float  # processor time of all threads: what a busy machine distorts least
    backward_cpu_ms: float
    device: str = "cpu"
    peak_mib: float | None = None  # on a GPU: most memory above what was held before the forward

    def cost(self) -> tuple[float, float]:
        """(forward, backward) that ratios are taken of: processor time, or time on the GPU."""
        if self.device == "cpu":
            return self.forward_cpu_ms, self.backward_cpu_ms
        return self.forward_ms, self.backward_ms


@dataclass(frozen=True)
class Candidate:
    """Something to be timed: a forward pass whose images lead back to `leaves`."""

    name: str
    render: Callable[[], Sequence[Tensor]]
    leaves: Sequence[Tensor]
    threads: int = 1
    repeats: int = 1


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


class Meter(Protocol):
    """How time and memory are measured on a kind of device."""

    kind: str  # cpu | cuda, which decides what ratios are taken of
    name: str  # of the hardware
    device: str  # where tensors go
    backend: str  # of our rasterizer
    warm_ups: int

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float, float]:
        """(result, milliseconds, processor milliseconds of the host) of one call."""

    def synchronize(self) -> None:
        """Wait until all work that was given to the device is done."""

    def start_peak(self) -> None:
        """Forget the peak of memory so far."""

    def peak_mib(self) -> float | None:
        """Most memory since `start_peak` above what was held then; None where nobody counts."""


class CpuMeter:
    """Wall and processor time."""

    kind = device = "cpu"
    warm_ups = 1

    def __init__(self, backend: str = "cpu") -> None:
        self.backend, self.name = backend, hardware_name()

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float, float]:
        watch = Stopwatch.start()
        result = work()
        return result, *watch.read()

    def synchronize(self) -> None:
        """Work on a CPU is done when the call returns."""

    def start_peak(self) -> None:
        """Torch counts no memory on a CPU."""

    def peak_mib(self) -> float | None:
        return None


class CudaMeter:
    """Time between two events of the current stream; torch's own count of memory."""

    kind = "cuda"
    warm_ups = 3  # the allocator's pool, and clocks that rise under load

    def __init__(self, device: str = "cuda", backend: str = "cuda", cuda: Any = torch.cuda) -> None:
        self.device, self.backend, self._cuda = device, backend, cuda
        self.name = str(cuda.get_device_name())
        self._held = 0

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float, float]:
        first, last = (self._cuda.Event(enable_timing=True) for _ in range(2))
        self._cuda.synchronize()
        watch = Stopwatch.start()
        first.record()
        result = work()
        last.record()
        _, host = watch.read()
        last.synchronize()
        return result, first.elapsed_time(last), host

    def synchronize(self) -> None:
        self._cuda.synchronize()

    def start_peak(self) -> None:
        self._cuda.synchronize()
        self._cuda.reset_peak_memory_stats()
        self._held = self._cuda.memory_allocated()

    def peak_mib(self) -> float | None:
        self._cuda.synchronize()
        return float(self._cuda.max_memory_allocated() - self._held) / MIB


@contextmanager
def threads_of_torch() -> Iterator[None]:
    """Put torch's number of threads back at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One candidate with its times so far: forward, backward, and the processor's for both."""

    def __init__(self, candidate: Candidate, meter: Meter) -> None:
        self.candidate, self.meter = candidate, meter
        self.upstream: list[Tensor] | None = None
        self.times: list[tuple[float, float, float, float]] = []
        self.peaks: list[float] = []

    def step(self, keep: bool) -> None:
        """Forward and backward once; a backward without images to lead back from takes no time."""
        torch.set_num_threads(self.candidate.threads)
        for leaf in self.candidate.leaves:
            leaf.grad = None
        self.meter.start_peak()
        images, forward, forward_cpu = self.meter.measure(self.candidate.render)
        images = [image for image in images if image.numel() and image.requires_grad]
        upstream = self._gradients(images)
        backward, backward_cpu = 0.0, 0.0
        if images:
            _, backward, backward_cpu = self.meter.measure(
                lambda: torch.autograd.backward(images, upstream)
            )
        if not keep:
            return
        self.times.append((forward, backward, forward_cpu, backward_cpu))
        peak = self.meter.peak_mib()
        if peak is not None:
            self.peaks.append(peak)

    def _gradients(self, images: list[Tensor]) -> list[Tensor]:
        """Fixed random gradients, made once."""
        if self.upstream is None:
            generator = torch.Generator().manual_seed(1)
            drawn = [torch.randn(image.shape, generator=generator) for image in images]
            self.upstream = [g.to(image) for g, image in zip(drawn, images, strict=True)]
        return self.upstream

    def row(self) -> Row:
        forward, backward, forward_cpu, backward_cpu = (
            statistics.median(column) for column in zip(*self.times, strict=True)
        )
        return Row(
            name=self.candidate.name,
            threads=self.candidate.threads,
            repeats=len(self.times),
            forward_ms=forward,
            backward_ms=backward,
            forward_cpu_ms=forward_cpu,
            backward_cpu_ms=backward_cpu,
            device=self.meter.kind,
            peak_mib=max(self.peaks) if self.peaks else None,
        )


def time_candidates(candidates: Sequence[Candidate], meter: Meter) -> list[Row]:
    """Time all of them in turns, each as often as it asks; runs beforehand warm up.

    Backward goes to every leaf under fixed random gradients; making a loss is not included.
    """
    runs = [_Run(candidate, meter) for candidate in candidates]
    with threads_of_torch():
        for run in runs:
            for _ in range(meter.warm_ups):
                run.step(keep=False)
        for turn in range(max(candidate.repeats for candidate in candidates)):
            for run in runs:
                if turn < run.candidate.repeats:
                    run.step(keep=True)
        for run in runs:
            for leaf in run.candidate.leaves:
                leaf.grad = None
    return [run.row() for run in runs]


def leaves_of(surfels: Splats) -> list[Tensor]:
    """The tensors of the splats that want a gradient."""
    tensors = [getattr(surfels, f.name) for f in fields(surfels)]
    return [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]


def time_renderer(
    name: str,
    render: Callable[[Splats], Sequence[Tensor]],
    surfels: Splats,
    threads: int,
    repeats: int,
) -> Row:
    """Time a function of splats and its backward alone, on the CPU; see `time_candidates`."""
    candidate = Candidate(name, lambda: render(surfels), leaves_of(surfels), threads, repeats)
    return time_candidates([candidate], CpuMeter())[0]


def usable_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hardware_name() -> str:
    """The processor's own name and how many of them this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = processor_name(text) or platform.processor() or platform.machine()
    return f"{name}, {usable_processors()} processors"


def processor_name(cpuinfo: str) -> str | None:
    """Name, family and model: virtual machines shorten the names of very different processors to
    "AMD EPYC" or "Intel Xeon Processor". None where the text tells no name.
    """

    def said(key: str) -> str | None:
        found = re.search(rf"^{key}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        return found[1].strip() if found else None

    name, family, model = said("model name"), said("cpu family"), said("model")
    return f"{name} family {family} model {model}" if name and family and model else name
