# SPDX-License-Identifier: Apache-2.0
"""What the training loop knows of a stage: it gives a loss, takes an update, can be saved."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from utils.errors import RunError


@dataclass(frozen=True)
class StepLoss:
    """The loss of one step, before its backward pass."""

    view: str
    terms: dict[str, Tensor]  # unweighted
    total: Tensor | None  # None: a step without a loss
    carried: Any = None  # what the stage's `update` needs of its `loss`


class Stage(Protocol):
    """A stretch of training with its own loss and optimizers.

    The loop alone calls `backward`, between `loss` and `update`.
    """

    name: str
    first: int  # number of its first step in the run
    last: int
    learns_instances: bool
    cheap_steps: bool  # a step looks at so few pixels that more threads cost more than they bring

    def loss(self, iteration: int) -> StepLoss:
        """The loss of one step; changes no parameter."""

    def parameters(self) -> list[Tensor]:
        """The tensors whose gradients the step needs, after `loss`."""

    def update(self, iteration: int, step: StepLoss) -> None:
        """Move the parameters by their gradients, and forget these."""

    def up_to_date(self) -> AbstractContextManager[None]:
        """Inside, the splats are what the steps so far have made of them."""

    def seen(self) -> Tensor | None:
        """Which splats [N] bool the training views show, where the stage knows it already."""

    def state_dict(self) -> dict[str, Any]:
        """Everything beside Gaussians and method that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""


def step_generator(seed: int, iteration: int, purpose: int) -> torch.Generator:
    """A generator that depends on nothing but its arguments, so a resumed run draws the same."""
    mixed = (seed * 2_000_003 + iteration) * 31 + purpose
    return torch.Generator().manual_seed(mixed % (2**63))


def take_step(stage: Stage, iteration: int) -> StepLoss:
    """One step of a stage. Nowhere else is a backward pass."""
    step = stage.loss(iteration)
    check_finite(step, iteration)
    if step.total is not None:
        step.total.backward()
    stage.update(iteration, step)
    return step


def check_finite(step: StepLoss, iteration: int) -> None:
    """Stop before a non-finite loss reaches the parameters."""
    if step.total is None or bool(torch.isfinite(step.total)):
        return
    bad = [name for name, term in step.terms.items() if not bool(torch.isfinite(term))]
    raise RunError(
        f"the loss is not finite at step {iteration}, view {step.view}, term "
        f"{', '.join(bad) or 'total'}; the last checkpoint is intact"
    )
