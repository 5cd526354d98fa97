# SPDX-License-Identifier: Apache-2.0
"""Adam against torch's, and what its first step imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"amsgrad": True}])
@pytest.mark.parametrize("fused", [False, True])
def test_it_is_torchs_adam_to_the_bit(fused: bool, options: dict[str, Any]) -> None:
    """Two groups with rates of their own, a parameter that comes late, one that never learns."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(40, 3, generator=generator) for _ in range(4)]
    kinds = []
    for kind in (Adam, torch.optim.Adam):
        values = [torch.nn.Parameter(value.clone()) for value in start]
        groups = [{"params": values[:1], "lr": 0.03}, {"params": values[1:], "lr": 0.2}]
        kinds.append((values, kind(groups, eps=1e-15, fused=fused, **options)))
    for step in range(20):
        target = torch.randn(40, 3, generator=generator)
        for values, optimizer in kinds:
            optimizer.zero_grad()
            for value in values[: 2 if step < 5 else 3]:
                (value - target).pow(2).sum().backward()
            optimizer.param_groups[0]["lr"] = 0.03 / (1 + step)
            optimizer.step()
    for index, (ours, theirs) in enumerate(zip(kinds[0][0], kinds[1][0], strict=True)):
        assert torch.equal(ours, theirs), index
        assert torch.equal(ours, start[index]) == (index == 3)
    states = [optimizer.state_dict()["state"] for _, optimizer in kinds]
    assert set(states[0]) == set(states[1]) == {0, 1, 2}
    for key in (0, 1, 2):
        for name, value in states[1][key].items():
            assert torch.equal(states[0][key][name], value), (key, name)
