# SPDX-License-Identifier: Apache-2.0
"""How far masks are trusted while instances are learned from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# When masks may move opacities: from this part of the steps on, decided every so many steps, while
# the method finds no more than this share of the labels wrong. (Exact masks: 1 in 1000 and less.)
SETTLING, DECIDE_EVERY, MOST_DOUBT = 0.2, 50, 0.01


class Trust:
    """Whether masks may move opacities, and be looked at by their edges.

    Both fit masks more closely, faults and all. So they wait until the method can tell faults from
    objects, and rest while it finds more than a few.
    """

    def __init__(self, first: int, steps: int, noisy: bool) -> None:
        """`noisy`: the masks were repaired; their edges are not to be trusted."""
        self.begin, self.noisy, self.trusting = first + round(SETTLING * steps), noisy, False
        self._doubts: list[Tensor] = []  # since the last decision

    @property
    def at_edges(self) -> bool:
        """Whether their edges are trusted, too."""
        return self.trusting and not self.noisy

    def update(self, iteration: int, doubts: Iterable[Tensor | None]) -> None:
        """Take the doubts of a step into account; decide now and then."""
        self._doubts += [doubt.detach() for doubt in doubts if doubt is not None]
        if (iteration + 1 - self.begin) % DECIDE_EVERY == 0:
            doubt = torch.stack(self._doubts).mean() if self._doubts else 0.0
            settled = iteration + 1 >= self.begin
            self.trusting, self._doubts = settled and bool(doubt <= MOST_DOUBT), []

    def state_dict(self) -> dict[str, Any]:
        """The decision, and what the next is made of."""
        doubts = torch.stack(self._doubts) if self._doubts else torch.zeros(0)
        return {"trusting": self.trusting, "doubts": doubts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.trusting, self._doubts = bool(state["trusting"]), list(state["doubts"])
