# SPDX-License-Identifier: Apache-2.0
"""The vote: every splat takes the id with most blending weight in the training masks. No training.

It is the honest floor under every learned method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import LABEL_WEIGHT_PARTS
from gaussian_renderer import Lens
from iqgs.methods.hard_labels import ClosedForm
from iqgs.methods.protocol import (
    FitView,
    IdKind,
    SceneFacts,
)


@dataclass(frozen=True)
class VoteParams:
    """The vote has no settings."""


def build(params: VoteParams, facts: SceneFacts, generator: torch.Generator) -> VoteMethod:
    """A vote that nobody has cast yet."""
    method = VoteMethod(facts.num_ids, facts.zero_is_background)
    method.ids = "clusters" if facts.tracks else "global"
    return method


class VoteSums:
    """Sums of blending weight per splat and id, for one label map of each view or several.

    One pass over a view serves all of them. Whole numbers of `LABEL_WEIGHT_PARTS`: the same bits
    whatever the order, the number of threads and the device.
    """

    def __init__(
        self, n_splats: int, n_ids: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        """`n_ids`: K of every label map; id 0 has a sum too."""
        self.n_ids = tuple(n_ids)
        self.first = tuple(accumulate((n + 1 for n in self.n_ids), initial=0))
        self.sums = torch.zeros(n_splats, self.first[-1], dtype=torch.int64, device=device)

    def add(self, lens: Lens, label_maps: Sequence[Tensor]) -> None:
        """Count one training view: its compact ids [H, W] of every map (int; -1: no vote)."""
        shape = lens.camera.height, lens.camera.width
        columns = []
        for labels, n, first in zip(label_maps, self.n_ids, self.first[:-1], strict=True):
            if tuple(labels.shape) != shape:
                raise ValueError(f"expected a label map of {shape}, got {tuple(labels.shape)}")
            given = labels.to(self.sums.device, torch.int32)
            low, high = (int(end) for end in given.aminmax())
            if not -1 <= low <= high <= n:
                raise ValueError(f"expected labels in -1..{n}, got {low}..{high}")
            columns.append(torch.where(given < 0, given, given + first) if first else given)
        lens.add_label_weights(torch.stack(columns), self.sums)

    def votes(self, number: int) -> Tensor:
        """The sums of one map, [N, K + 1] int64; a view of the whole."""
        return self.sums[:, self.first[number] : self.first[number + 1]]


def decided(votes: Tensor) -> tuple[Tensor, Tensor]:
    """The id with most votes [N] int64 and its share of them [N] float32; 0 where none voted.

    votes: [N, K + 1] int64, of which the first of equals wins.
    """
    best, label = votes.max(dim=1)
    total = votes.sum(dim=1)
    return label, best.float() / total.clamp_min(1).float()


class VoteMethod(ClosedForm):
    """Labels of splats by vote, as one more method: it is fitted, and has no loss."""

    ids: IdKind = "global"

    def __init__(self, n_ids: int, background: bool) -> None:
        """With `background`, id 0 is a class of its own; otherwise its pixels are left out."""
        super().__init__()
        self.n_ids = n_ids
        self.background = background
        self.sums: VoteSums | None = None  # None: not begun, or finished

    def fit(self, views: Iterable[FitView]) -> None:
        """Count the votes of these training views."""
        for view in views:
            if self.sums is None:
                splats = view.lens.gaussians
                self.sums = VoteSums(len(splats), [self.n_ids], self.labels.device)
            self.sums.add(view.lens, [self.voters(view.labels)])

    def voters(self, labels: Tensor) -> Tensor:
        """A label map with -1 where a pixel has no vote."""
        return labels if self.background else torch.where(labels > 0, labels, -1)

    def finish(self, lenses: Iterable[Lens]) -> None:
        """Decide every splat by the votes so far."""
        if self.sums is not None:
            self.decide(self.sums.votes(0))
            self.sums = None

    def decide(self, votes: Tensor) -> None:
        """Decide every splat by votes [N, K + 1] that were counted elsewhere."""
        self.labels, self.confidence = decided(votes)

    def seen(self) -> Tensor:
        """Which splats [N] bool a view gave a vote: of others nothing is known."""
        return self.confidence > 0

    def state_dict(self) -> dict[str, Any]:
        """Labels, and while votes are being counted these too (most splats have few: sparse)."""
        state = super().state_dict()
        if self.sums is not None:
            votes = self.sums.votes(0)
            at = votes.nonzero(as_tuple=True)
            state.update(size=len(votes), at=torch.stack(at), votes=votes[at])
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state)
        self.sums = None
        if "votes" in state:
            device, votes = self.labels.device, state["votes"]
            if votes.is_floating_point():  # of a version that summed floats
                votes = (votes.double() * LABEL_WEIGHT_PARTS).round().long()
            self.sums = VoteSums(int(state["size"]), [self.n_ids], device)
            self.sums.votes(0)[tuple(state["at"].to(device))] = votes.to(device)
