# SPDX-License-Identifier: Apache-2.0
"""One Adam over the Gaussians, and the only surgery on its rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from scene.gaussian_model import GaussianModel

log = logging.getLogger(__name__)

_MOMENTS = ("exp_avg", "exp_avg_sq")  # the state of Adam that has one entry per parameter entry


def set_rates(optimizer: Optimizer, rates: Mapping[str, float]) -> None:
    """Set the learning rates of the groups that carry these names; others keep theirs."""
    for group in optimizer.param_groups:
        if group.get("name") in rates:
            group["lr"] = rates[group["name"]]


def make_optimizer(
    model: GaussianModel,
    rates: Mapping[str, float],
    eps: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Adam:
    """One Adam with a group named after each parameter in `rates`; others are not optimised.

    The fused implementation is used where this torch has it for the model's device.
    """
    unknown = set(rates) - set(model.params)
    if unknown or not rates:
        raise ValueError(f"expected rates for some of {tuple(model.params)}, got {tuple(rates)}")
    groups = [
        {"params": [model.params[name]], "lr": rate, "name": name} for name, rate in rates.items()
    ]
    try:
        return Adam(groups, lr=0.0, betas=betas, eps=eps, fused=True)
    except RuntimeError as error:
        log.debug("no fused Adam here: %s", error)
        return Adam(groups, lr=0.0, betas=betas, eps=eps)


def edit_rows(
    model: GaussianModel,
    optimizer: Optimizer | None,
    keep: Tensor | None = None,
    append: Mapping[str, Tensor] | None = None,
) -> None:
    """Keep rows (boolean mask [N] or indices; None = all) and append new ones, everywhere at once.

    Parameters become new nn.Parameters without gradient. Kept rows keep their Adam moments,
    appended rows (`append`: all parameters, [M, ...]) start with zero moments.
    """
    if append is not None and set(append) != set(model.params):
        raise ValueError(f"append needs all of {tuple(model.params)}, got {tuple(append)}")
    for name, old in list(model.params.items()):
        extra = old.detach()[:0] if append is None else append[name].detach().to(old)
        new = nn.Parameter(_edited(old.detach(), keep, extra))
        _replace(optimizer, old, new, partial(_edited, keep=keep, extra=torch.zeros_like(extra)))
        model.params[name] = new


def replace_values(
    model: GaussianModel, optimizer: Optimizer | None, name: str, values: Tensor
) -> None:
    """Give parameter `name` new `values` of the same shape and forget its Adam moments."""
    old = model.params[name]
    if values.shape != old.shape:
        raise ValueError(f"{name}: expected {list(old.shape)}, got {list(values.shape)}")
    new = nn.Parameter(values.detach().to(old).clone())
    _replace(optimizer, old, new, torch.zeros_like)
    model.params[name] = new


def _edited(rows: Tensor, keep: Tensor | None, extra: Tensor) -> Tensor:
    return torch.cat([rows if keep is None else rows[keep], extra])


def _replace(
    optimizer: Optimizer | None,
    old: nn.Parameter,
    new: nn.Parameter,
    move: Callable[[Tensor], Tensor],
) -> None:
    """Put `new` in the place of `old` in its group; `move` maps each of its moments."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, None)
    if state is not None:
        moved = {key: move(v) if key in _MOMENTS else v for key, v in state.items()}
        optimizer.state[new] = moved


class RowAdam:
    """Adam on those rows of one parameter that a step looks at: the others rest, moments included.

    The rule of `torch.optim.SparseAdam`, at a cost that does not grow with the rows that rest.
    """

    def __init__(
        self, parameter: nn.Parameter, eps: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        """`parameter` [N, C]; moments start at zero."""
        self.parameter = parameter
        self.eps, self.betas = eps, betas
        self.steps = 0
        self.mean = torch.zeros_like(parameter, requires_grad=False)
        self.square = torch.zeros_like(parameter, requires_grad=False)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move rows [R] int64 (each once) by their gradient [R, C] at learning rate `rate`."""
        first, second = self.betas
        self.steps += 1
        mean = self.mean.index_select(0, rows).lerp_(gradient, 1 - first)
        square = self.square.index_select(0, rows)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        self.mean.index_copy_(0, rows, mean)
        self.square.index_copy_(0, rows, square)
        size = rate * math.sqrt(1 - second**self.steps) / (1 - first**self.steps)
        moved = self.parameter.index_select(0, rows)
        moved.addcdiv_(mean, square.sqrt_().add_(self.eps), value=-size)
        self.parameter.index_copy_(0, rows, moved)

    def state_dict(self) -> dict[str, Any]:
        """Moments and the number of steps."""
        return {"steps": self.steps, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. ValueError for moments of other rows."""
        if state["mean"].shape != self.mean.shape:
            found, wanted = list(state["mean"].shape), list(self.mean.shape)
            raise ValueError(f"expected moments {wanted}, got {found}")
        self.steps = int(state["steps"])
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
