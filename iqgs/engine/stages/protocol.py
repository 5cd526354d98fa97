# SPDX-License-Identifier: Apache-2.0
"""What the training loop knows of a stage: it gives a loss, takes an update, can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from iqgs.engine.ranks import ALONE, Ranks
from iqgs.engine.stages.finite import backward, check_gradients, check_loss

SLOT_STRIDE = 1_000_000_007 * 2_000_003 * 31  # between the generators of two views of a step


@dataclass(frozen=True)
class StepLoss:
    """The loss of one step, before its backward pass."""

    view: str
    terms: dict[str, Tensor]  # unweighted
    total: Tensor | None  # None: a step without a loss
    carried: Any = None  # what the stage's `update` needs of its `loss`


class Stage(Protocol):
    """A stretch of training with its own loss and optimizers.

    A step is `draw`, then for each of the views that are this process's `loss` and `take`, between
    them the backward pass, which the loop alone calls, then `exchange` and `update`.
    """

    name: str
    first: int  # number of its first step in the run
    last: int
    learns_instances: bool
    cheap_steps: bool  # a step looks at so few pixels that more threads cost more than they bring

    def draw(self, iteration: int) -> list[int]:
        """Begin a step: its views, the same in every process; none for a step without a loss."""

    def loss(self, iteration: int, view: int, slot: int = 0) -> StepLoss:
        """The loss of one view, which has place `slot` in the step; changes no parameter."""

    def parameters(self) -> list[Tensor]:
        """The tensors whose gradients the step needs."""

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """After a view's backward pass: the gradient of all that `update` moves, by name."""

    def take(self, step: StepLoss) -> Any:
        """Keep what `update` needs of a view after its backward pass; returns what it leaves for
        the running statistics of the method."""

    def exchange(self, ranks: Ranks, seen: list[Any]) -> list[Any]:
        """Sum the gradients over all processes; returns what all views of the step left."""

    def update(self, iteration: int, seen: list[Any]) -> None:
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


def step_generator(seed: int, iteration: int, purpose: int, slot: int = 0) -> torch.Generator:
    """A generator that depends on nothing but its arguments, so a resumed run draws the same, and
    every process what one alone would for a view in this place of the step."""
    mixed = (seed * 2_000_003 + iteration) * 31 + purpose + slot * SLOT_STRIDE
    return torch.Generator().manual_seed(mixed % (2**63))


def take_step(
    stage: Stage, iteration: int, ranks: Ranks = ALONE, look_at_gradients: bool = False
) -> StepLoss:
    """One step of a stage; the mean loss of the views that are this process's. Nowhere else is a
    backward pass.

    Raises NotFiniteError before anything reaches a parameter where the loss is not finite, or,
    with `look_at_gradients`, a gradient.
    """
    with ranks.together():
        batch = stage.draw(iteration)
        own = ranks.share(list(enumerate(batch)))
        made = []
        for slot, view in own:
            step = stage.loss(iteration, view, slot)
            _learn_view(step, iteration, len(batch))
            if look_at_gradients:
                check_gradients(stage.gradients(step), iteration, step.view)
            seen = stage.take(step)
            made.append((step if len(batch) == 1 else detached(step), seen))
            del step  # all else of a view is gone before the next
    stage.update(iteration, stage.exchange(ranks, [seen for _, seen in made]))
    return mean_loss([step for step, _ in made])


def _learn_view(step: StepLoss, iteration: int, views: int) -> None:
    """Add the gradient of one of so many views."""
    assert step.total is not None
    check_loss(step.terms, step.total, iteration, step.view)
    backward(step.total if views == 1 else step.total / views, iteration, step.view)


def detached(step: StepLoss) -> StepLoss:
    """The numbers alone, without what they were made of."""
    assert step.total is not None
    terms = {name: term.detach() for name, term in step.terms.items()}
    return StepLoss(step.view, terms, step.total.detach())


def mean_loss(steps: Sequence[StepLoss]) -> StepLoss:
    """The mean over views of the total and of each term, over the views that have it."""
    if not steps:
        return StepLoss("", {}, None)
    if len(steps) == 1:
        return steps[0]
    names = dict.fromkeys(name for step in steps for name in step.terms)
    terms = {n: torch.stack([s.terms[n] for s in steps if n in s.terms]).mean() for n in names}
    totals = [step.total for step in steps if step.total is not None]
    return StepLoss(", ".join(step.view for step in steps), terms, torch.stack(totals).mean())
