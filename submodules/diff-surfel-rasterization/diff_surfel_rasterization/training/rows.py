# SPDX-License-Identifier: Apache-2.0
"""Adam over chosen rows of a large parameter; rows that rest are brought up to date later."""

from __future__ import annotations

from torch import Tensor

from ..backends import choose_backend
from ..checks import check_shape
from .native import look_at_native, step_native
from .records import AdamRows, AdamStep, CatchUp
from .reference import look_at_reference, step_reference


def _check(function: str, state: AdamRows, rows: Tensor) -> None:
    check_shape(function, "value", state.value, ("N", "C"))
    count, channels = state.value.shape
    check_shape(function, "mean", state.mean, (count, channels))
    check_shape(function, "square", state.square, (count, channels))
    check_shape(function, "last", state.last, (count,))
    check_shape(function, "rows", rows, ("R",))


def look_at_rows(state: AdamRows, rows: Tensor, due: CatchUp, backend: str = "auto") -> Tensor:
    """Bring rows [R] int64 (each once) up to date; returns a copy of their values [R, C].

    Raises:
        ValueError: a tensor has a wrong shape or type.
        RuntimeError: the requested backend is not built.
    """
    _check("look_at_rows", state, rows)
    chosen = choose_backend("look_at_rows", backend, state.value)
    look = look_at_reference if chosen == "reference" else look_at_native
    values: Tensor = look(state, rows, due)
    return values


def step_rows(
    state: AdamRows, rows: Tensor, gradient: Tensor, step: AdamStep, backend: str = "auto"
) -> None:
    """One step of Adam for rows [R] int64 (each once, up to date) with their gradient [R, C].

    Raises:
        ValueError: a tensor has a wrong shape or type.
        RuntimeError: the requested backend is not built.
    """
    _check("step_rows", state, rows)
    check_shape("step_rows", "gradient", gradient, (len(rows), state.value.shape[1]))
    chosen = choose_backend("step_rows", backend, state.value)
    move = step_reference if chosen == "reference" else step_native
    move(state, rows, gradient, step)
