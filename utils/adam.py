# SPDX-License-Identifier: Apache-2.0
"""torch's Adam without torch's compiler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger(__name__)

# Of torch.optim.Optimizer: the methods that torch hides from its compiler, at their first call.
_HIDDEN = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")

# Of a group: with any of these a step is torch's own.
_OPTIONS = ("amsgrad", "maximize", "weight_decay", "differentiable", "capturable")


def _let_alone() -> None:
    """Have torch take these methods as they are instead of importing its compiler to wrap them.

    The import takes longer than a second. Where torch hides them in another way, or not at all,
    nothing changes; code that compiles an optimizer's step would trace into them.
    """
    for name in _HIDDEN:
        plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = plain


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, to the bit; only that nothing imports torch's compiler, and that a group
    of the fused kind goes to torch's kernel without the sorting and checking round it, which takes
    longer than the kernel.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        """As torch's."""
        _let_alone()
        super().__init__(params, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As torch's, but for the wrapper that speaks to the compiler before and after."""
        if closure is None and all(self._is_plain(group) for group in self.param_groups):
            return self._step_fused()
        plain = getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step)
        return plain(self, closure)

    def _is_plain(self, group: dict[str, Any]) -> bool:
        """Whether the kernel alone does the step: later ones, without any of the options."""
        if not group["fused"] or not isinstance(group["lr"], float):
            return False
        for name in _OPTIONS:
            if group[name]:
                return False
        if any(getattr(self, name, None) is not None for name in ("grad_scale", "found_inf")):
            return False  # a gradient scaler speaks to the kernel
        kind = None
        for p in group["params"]:
            if p.grad is None:
                continue
            found = (p.device, p.dtype, p.grad.dtype)
            if p.grad.is_sparse or not self.state.get(p) or (kind or found) != found:
                return False
            kind = found
        return True

    def _step_fused(self) -> None:
        groups = [
            (group, [p for p in group["params"] if p.grad is not None])
            for group in self.param_groups
        ]
        groups = [(group, learning) for group, learning in groups if learning]
        states = [[self.state[p] for p in learning] for _, learning in groups]
        if not groups:
            return
        torch._foreach_add_([state["step"] for some in states for state in some], 1)
        for (group, learning), some in zip(groups, states, strict=True):
            first, second = group["betas"]
            torch._fused_adam_(
                learning,
                [p.grad for p in learning],
                [state["exp_avg"] for state in some],
                [state["exp_avg_sq"] for state in some],
                [],
                [state["step"] for state in some],
                lr=group["lr"],
                beta1=first,
                beta2=second,
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )


def fastest_adam(params: Any, **options: Any) -> Adam:
    """The fused kind where this torch has it for the parameters' device, else the plain one. They
    agree to rounding, not to the bit.
    """
    try:
        return Adam(params, fused=True, **options)
    except RuntimeError as error:
        log.debug("no fused Adam here: %s", error)
        return Adam(params, **options)
