# SPDX-License-Identifier: Apache-2.0
"""The order in which training looks at the views."""

from __future__ import annotations

from typing import Any

import torch


class ViewSampler:
    """Draws view numbers 0..count-1: random permutations without replacement, one after another.

    The state is plain tensors and numbers, so a resumed run draws what the unbroken one would.
    """

    def __init__(self, count: int, seed: int) -> None:
        if count < 1:
            raise ValueError(f"a sampler needs at least one view, got {count}")
        self.count = count
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(count, generator=self._generator)
        self._position = 0
        self._before: tuple[torch.Tensor, int, torch.Tensor | None] | None = None

    def draw(self) -> int:
        """The next view's number."""
        return self.batch(1)[0]

    def _next(self) -> int:
        if self._position == self.count:
            self._order = torch.randperm(self.count, generator=self._generator)
            self._position = 0
        self._position += 1
        return int(self._order[self._position - 1])

    def batch(self, size: int) -> list[int]:
        """The numbers of the next `size` views."""
        turns = self._position + size > self.count
        state = self._generator.get_state() if turns else None
        self._before = self._order, self._position, state
        return [self._next() for _ in range(size)]

    def put_back(self) -> None:
        """Undo the last `batch` or `draw`: the next gives the same. ValueError without one."""
        if self._before is None:
            raise ValueError("no draw to put back")
        self._order, self._position, state = self._before
        if state is not None:
            self._generator.set_state(state)
        self._before = None

    def state_dict(self) -> dict[str, Any]:
        """Everything that the coming draws depend on."""
        return {
            "count": self.count,
            "order": self._order.clone(),
            "position": self._position,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. ValueError if the number of views has changed."""
        if state["count"] != self.count:
            raise ValueError(f"state of {state['count']} views for a sampler of {self.count}")
        self._before = None
        self._order = state["order"].clone()
        self._position = int(state["position"])
        self._generator.set_state(state["generator"])
