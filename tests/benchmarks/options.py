# SPDX-License-Identifier: Apache-2.0
"""What a section is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diff_surfel_rasterization import available_backends
from tests.benchmarks.timing import CpuMeter, CudaMeter, Meter


@dataclass(frozen=True)
class Options:
    """One run of the benchmarks. `meters` are those of the devices to use, CPU first; `other` is
    the root of another checkout to compare commands with."""

    quick: bool
    repeats: int
    meters: tuple[Meter, ...]
    other: Path | None = None

    def meter(self, kind: str) -> Meter | None:
        """The meter of a kind of device (cpu | cuda), None if it is not to be used."""
        return next((meter for meter in self.meters if meter.kind == kind), None)


def choose_meters(device: str) -> tuple[Meter, ...]:
    """Meters for --device auto (all that this build serves), cpu or cuda.

    Raises RuntimeError where a GPU is asked for and this build or machine has none.
    """
    built = available_backends()
    if device == "cuda" and "cuda" not in built:
        raise RuntimeError(
            "--device cuda needs an NVIDIA GPU and a build with CUDA: "
            "bash scripts/setup.sh on such a machine"
        )
    meters: list[Meter] = []
    if device in ("auto", "cpu"):
        meters.append(CpuMeter("cpu" if "cpu" in built else "reference"))
    if device in ("auto", "cuda") and "cuda" in built:
        meters.append(CudaMeter())
    return tuple(meters)
