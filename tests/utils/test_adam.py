# SPDX-License-Identifier: Apache-2.0
"""Adam against torch's, and what its first step imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils.adam import Adam

ROOT = Path(__file__).resolve().parents[2]

STEPS = """
import sys, torch
from utils.adam import Adam
value = torch.nn.Parameter(torch.ones(3, 2))
adam = Adam([{"params": [value], "lr": 0.1, "name": "value"}], eps=1e-15)
value.sum().backward()
adam.step()
adam.zero_grad(set_to_none=True)
adam.load_state_dict(adam.state_dict())
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
"""


def test_a_step_does_not_import_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fused", [False, True])
def test_it_is_torchs_adam_to_the_bit(fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(40, 3, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    kinds = ((ours, Adam), (theirs, torch.optim.Adam))
    optimizers = [kind([value], lr=0.03, eps=1e-15, fused=fused) for value, kind in kinds]
    for _ in range(20):
        target = torch.randn(40, 3, generator=generator)
        for optimizer, value in zip(optimizers, (ours, theirs), strict=True):
            optimizer.zero_grad()
            (value - target).pow(2).sum().backward()
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)
