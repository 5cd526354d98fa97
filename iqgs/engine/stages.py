# SPDX-License-Identifier: Apache-2.0
"""What the training loop knows of a stage: it steps, it can be saved, it can be put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from utils.errors import RunError


@dataclass(frozen=True)
class StepReport:
    """One step in numbers: for the progress bar, TensorBoard and log.jsonl."""

    view: str
    total: float
    terms: dict[str, float]


class Stage(Protocol):
    """A stretch of training with its own loss and optimizers."""

    name: str
    first: int  # number of its first step in the run
    last: int

    def step(self, iteration: int) -> StepReport:
        """Do one optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """Everything beside Gaussians and method that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""


def step_generator(seed: int, iteration: int, purpose: int) -> torch.Generator:
    """A generator that depends on nothing but its arguments, so a resumed run draws the same."""
    mixed = (seed * 2_000_003 + iteration) * 31 + purpose
    return torch.Generator().manual_seed(mixed % (2**63))


def check_finite(total: Tensor, terms: dict[str, Tensor], iteration: int, view: str) -> None:
    """Stop before a non-finite loss reaches the parameters."""
    if bool(torch.isfinite(total)):
        return
    bad = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
    raise RunError(
        f"the loss is not finite at step {iteration}, view {view}, term "
        f"{', '.join(bad) or 'total'}; the last checkpoint is intact"
    )


def detached_floats(terms: dict[str, Tensor]) -> dict[str, float]:
    """Terms as plain numbers, for logs."""
    return {name: float(term.detach()) for name, term in terms.items()}
