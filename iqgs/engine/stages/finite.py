# SPDX-License-Identifier: Apache-2.0
"""Numbers that are not finite, found before they reach a parameter or a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from utils.errors import NotFiniteError, RunError


def all_finite(values: Tensor) -> bool:
    """Whether no entry is infinite or no number.

    The sum tells it in one pass over the memory; only a sum that overflows needs a second look.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


@contextmanager
def naming(iteration: int, view: str) -> Iterator[None]:
    """What a method finds not finite inside gets the step and the view."""
    try:
        yield
    except NotFiniteError as fault:
        raise NotFiniteError(f"{fault} at step {iteration}, view {view}") from None


def check_loss(
    terms: Mapping[str, Tensor], total: Tensor | None, iteration: int, view: str
) -> None:
    """NotFiniteError that names the terms at fault."""
    if total is None or bool(torch.isfinite(total)):
        return
    bad = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
    raise NotFiniteError(
        f"the loss is not finite at step {iteration}, view {view}, term {', '.join(bad) or 'total'}"
    )


def check_gradients(gradients: Mapping[str, Tensor], iteration: int, view: str) -> None:
    """NotFiniteError that names the parameters at fault; the loss was finite."""
    bad = [name for name, gradient in gradients.items() if not all_finite(gradient)]
    if bad:
        raise NotFiniteError(
            f"the loss is finite but not its gradient at step {iteration}, view {view}, "
            f"parameter {', '.join(bad)}"
        )


def backward(total: Tensor, iteration: int, view: str) -> None:
    """The backward pass; what torch's anomaly detection finds becomes a NotFiniteError."""
    try:
        total.backward()
    except RuntimeError as error:
        if "returned nan values" not in str(error):
            raise
        raise NotFiniteError(
            f"the loss is finite but not its gradient at step {iteration}, view {view}: "
            f"{str(error).rstrip('.')}"
        ) from None


def gradients_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """The gradients of an optimizer's parameters by the names of its groups."""
    found = {}
    for number, group in enumerate(optimizer.param_groups):
        name = group.get("name", f"group {number}")
        present = [p.grad for p in group["params"] if p.grad is not None]
        several = len(present) > 1
        found.update({f"{name}[{i}]" if several else name: g for i, g in enumerate(present)})
    return found


def check_splats(params: Mapping[str, Tensor], iteration: int) -> None:
    """RunError where splats [N, ...] are not finite after a step; such splats vanish unseen."""
    for name, values in params.items():
        if values.numel() and not all_finite(values.detach()):
            bad = int((~values.detach().isfinite().flatten(1).all(1)).sum())
            raise RunError(
                f"after step {iteration} {name} of {bad} of {len(values)} splats is not finite; "
                "nothing was saved since it was; --resume auto --detect_anomaly goes on from the "
                "last checkpoint and stops at the step that does it"
            )
