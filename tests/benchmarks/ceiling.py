# SPDX-License-Identifier: Apache-2.0
"""What more threads can gain on this machine at all, measured on loops that leave nothing to wish.

Two processors of a virtual machine are often two halves of one core: they share its arithmetic
units, and all cores share the memory. A rasterizer cannot gain more than such loops do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from tests.benchmarks.timing import CpuMeter, threads_of_torch

# Loops that one thread runs on data of its own, so that nothing but the hardware is shared.
COMPUTE, EXPONENTIALS, MEMORY = "multiply-add", "exponentials", "copy"


def _matrix_products(scale: float) -> Callable[[], None]:
    """Arithmetic units full, data in the core's own cache."""
    left, right, out = torch.rand(3, 128, 128).unbind()

    def work() -> None:
        for _ in range(int(2000 * scale)):
            torch.mm(left, right, out=out)

    return work


def _exponentials(scale: float) -> Callable[[], None]:
    """Chains of dependent arithmetic, as in blending: leaves room for a second thread."""
    values, out = torch.rand(32_000), torch.empty(32_000)

    def work() -> None:
        for _ in range(int(4000 * scale)):
            torch.exp(values, out=out)

    return work


def _copies(scale: float) -> Callable[[], None]:
    """Memory only: far larger than any cache."""
    source, target = torch.rand(2, 16 << 20).unbind()

    def work() -> None:
        for _ in range(int(20 * scale)):
            target.copy_(source)

    return work


LOOPS: dict[str, Callable[[float], Callable[[], None]]] = {
    COMPUTE: _matrix_products,
    EXPONENTIALS: _exponentials,
    MEMORY: _copies,
}


def gain(
    make: Callable[[float], Callable[[], None]], threads: int, turns: int, scale: float
) -> float:
    """How many times the work of one thread `threads` of them do in the same wall time."""
    works = [make(scale) for _ in range(threads)]
    meter, alone, together = CpuMeter(), [], []

    def one(work: Callable[[], None]) -> None:
        torch.set_num_threads(1)  # of the calling thread
        work()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, works))  # touches the memory
        for _ in range(turns):
            alone.append(meter.measure(lambda: pool.submit(one, works[0]).result())[1])
            together.append(meter.measure(lambda: list(pool.map(one, works)))[1])
    return threads * statistics.median(alone) / statistics.median(together)


def gains(threads: Sequence[int], quick: bool) -> dict[str, dict[int, float]]:
    """Gain of every loop at every number of threads; 1 at one thread by definition."""
    turns, scale = (1, 0.05) if quick else (5, 1.0)
    with threads_of_torch():
        return {
            name: {n: gain(make, n, turns, scale) if n > 1 else 1.0 for n in threads}
            for name, make in LOOPS.items()
        }
