# SPDX-License-Identifier: Apache-2.0
"""Results of a function under an instruction set that this processor has beside its best one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization.native import build_info

ORDER = ("baseline", "avx2", "avx512")
SCRIPT = """
import importlib, sys, torch
from diff_surfel_rasterization.native import build_info
assert build_info()["isa"] == sys.argv[1]
made = getattr(importlib.import_module(sys.argv[2]), sys.argv[3])()
torch.save(made, sys.argv[4])
"""


def results_under(
    isa: str, make: Callable[[], dict[str, Tensor]], folder: Path
) -> dict[str, Tensor]:
    """What `make`, a function of a test module, gives in a process of its own that uses `isa`."""
    if ORDER.index(isa) >= ORDER.index(build_info()["isa"]):
        pytest.skip(f"{isa} is what runs here, or more than that")
    file = folder / "results.pt"
    subprocess.run(
        [sys.executable, "-c", SCRIPT, isa, make.__module__, make.__name__, str(file)],
        env={**os.environ, "IQGS_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=300,
    )
    found: dict[str, Tensor] = torch.load(file)
    return found
