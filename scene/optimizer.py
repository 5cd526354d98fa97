# SPDX-License-Identifier: Apache-2.0
"""One Adam over the Gaussians, and the only surgery on its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scene.gaussian_model import GaussianModel
from utils.adam import Adam, fastest_adam

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
    return fastest_adam(groups, lr=0.0, betas=betas, eps=eps)


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


def forget_rows(model: GaussianModel, optimizer: Optimizer | None, rows: Tensor) -> None:
    """Zero the Adam moments of these rows (indices) of every parameter."""
    if optimizer is None:
        return
    for parameter in model.params.values():
        for key, value in optimizer.state.get(parameter, {}).items():
            if key in _MOMENTS:
                value[rows] = 0.0


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
