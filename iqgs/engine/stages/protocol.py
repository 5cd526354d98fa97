# SPDX-License-Identifier: Apache-2.0
"""What the training loop knows of a stage: it gives a loss, takes an update, can be saved."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from iqgs.engine.stages.finite import backward, check_gradients, check_loss


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

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """After the backward pass: the gradient of everything that `update` moves, by name."""

    def update(self, iteration: int, step: StepLoss) -> None:
        """Move the parameters by their gradients, and forget these."""

    def rewind(self) -> None:
        """Undo what a `loss` without `update` has drawn, so that the next draws the same."""

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


def take_step(stage: Stage, iteration: int, look_at_gradients: bool = False) -> StepLoss:
    """One step of a stage. Nowhere else is a backward pass.

    Raises NotFiniteError before anything reaches a parameter where the loss is not finite, or,
    with `look_at_gradients`, a gradient.
    """
    step = stage.loss(iteration)
    check_loss(step.terms, step.total, iteration, step.view)
    if step.total is not None:
        backward(step.total, iteration, step.view)
        if look_at_gradients:
            check_gradients(stage.gradients(step), iteration, step.view)
    stage.update(iteration, step)
    return step
