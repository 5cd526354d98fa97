# SPDX-License-Identifier: Apache-2.0
"""What the machine can do at best, beside what a benchmark does with it.

A ratio of two programs says as much about the machine as about them: one that computes fast and
waits for memory makes another ratio than the opposite. One thread of the CPU: chains of
multiply-adds on registers, and a copy far beyond the caches, in C++ compiled for the processor at
hand (peak.cpp); without a compiler torch's matrix product and copy stand in, which are less than
the peak, and are called so. A GPU: torch's product and copy.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.timing import Meter, threads_of_torch
from tests.rasterizer.build_tools import toolkit

SOURCE = Path(__file__).with_name("peak.cpp")
FLAGS = ["-O3", "-std=c++17", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared"]
COPY_BYTES = 256 << 20
TURNS, QUICK_TURNS = 12, 2
GIB, GIGA = 2**30, 1e9
# Sides of the matrices: in a core's own cache, and large enough for a whole GPU.
CPU_SIDE, GPU_SIDE, QUICK_SIDE = 192, 8192, 128
COMPILED, STAND_IN = "multiply-adds on registers, copy in C++", "matrix product and copy of torch"


@dataclass(frozen=True)
class Peak:
    """Of one thread of a CPU, or of a GPU, float32."""

    name: str
    gflops: float
    copy_gib_per_s: float  # read and written together, as STREAM counts
    measured_by: str

    def __str__(self) -> str:
        return (
            f"{self.name} at best: {self.gflops:.0f} GFLOP/s in float32, "
            f"{self.copy_gib_per_s:.1f} GiB/s copying ({self.measured_by})"
        )

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


@functools.cache
def native_loops() -> ctypes.CDLL | None:
    """peak.cpp compiled for this processor, kept in the system's folder for temporary files under
    a name that depends on all it was made of; None without a compiler that takes it.
    """
    compiler = toolkit.find_compiler()
    if compiler is None:
        return None
    words = [*compiler, *FLAGS, toolkit.compiler_identity(compiler), _processor()]
    digest = hashlib.sha256("\0".join(words).encode() + SOURCE.read_bytes()).hexdigest()
    library = Path(tempfile.gettempdir()) / f"iqgs-peak-{digest[:16]}.so"
    if not library.is_file():
        half = library.with_suffix(f".{os.getpid()}")
        command = [*compiler, *FLAGS, str(SOURCE), "-o", str(half)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
        half.replace(library)
    loops = ctypes.CDLL(str(library))
    loops.multiply_add_gflops.restype = loops.copy_gib.restype = ctypes.c_double
    loops.copy_gib.argtypes = [ctypes.c_int64, ctypes.c_int]
    return loops


def _processor() -> str:
    """What -march=native depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text().split("\n\n")[0].split("flags")[-1] if cpuinfo.exists() else ""


def best_rate(meter: Meter, work: Callable[[], Any], amount: float, turns: int) -> float:
    """Amount a second in the best of some turns: of processor time, or of time on the GPU."""
    work()
    meter.synchronize()
    clock = 2 if meter.kind == "cpu" else 1
    return amount / min(meter.measure(work)[clock] / 1000 for _ in range(turns))


def by_torch(meter: Meter, name: str, side: int, copied: int, turns: int) -> Peak:
    """Product of two matrices and copy of an array, as torch does them."""
    left, right, product = torch.rand(3, side, side, device=meter.device).unbind()
    source, target = torch.rand(2, copied // 4, device=meter.device).unbind()
    # Many products in one measurement: a single one of a small matrix is over at once.
    times = max(1, round(GPU_SIDE**3 / side**3 / 256)) if meter.kind == "cpu" else 1

    def multiply() -> None:
        for _ in range(times):
            torch.mm(left, right, out=product)

    flops = best_rate(meter, multiply, 2.0 * times * side**3, turns)
    copies = best_rate(meter, lambda: target.copy_(source), 2.0 * copied, turns)
    return Peak(name, flops / GIGA, copies / GIB, STAND_IN)


def peak_of(meter: Meter, quick: bool) -> Peak:
    """The best that the meter's device does now."""
    turns, copied = (QUICK_TURNS, COPY_BYTES // 8) if quick else (TURNS, COPY_BYTES)
    if meter.kind != "cpu":
        side = QUICK_SIDE if quick else GPU_SIDE
        return by_torch(meter, meter.name, side, copied, turns)
    name, loops = "one thread", native_loops()
    if loops is None:
        with threads_of_torch():
            torch.set_num_threads(1)
            return by_torch(meter, name, CPU_SIDE, copied, turns)
    return Peak(name, loops.multiply_add_gflops(turns), loops.copy_gib(copied, turns), COMPILED)
