# SPDX-License-Identifier: Apache-2.0
"""torch's Adam without torch's compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Of torch.optim.Optimizer: the methods that torch hides from its compiler, at their first call.
_HIDDEN = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


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
    """`torch.optim.Adam`, to the bit; only that nothing imports torch's compiler."""

    def __init__(self, params: Any, **options: Any) -> None:
        """As torch's."""
        _let_alone()
        super().__init__(params, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As torch's, but for the wrapper that speaks to the compiler before and after."""
        plain = getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step)
        return plain(self, closure)
