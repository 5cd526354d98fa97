# SPDX-License-Identifier: Apache-2.0
"""Pairs of neighbouring splats, for terms that compare them (Eq. 13)."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.neighbors import nearest_neighbors


class NeighborPairs:
    """Every splat with its k nearest, itself left out."""

    def __init__(self, means: Tensor, k: int) -> None:
        count = min(k, len(means) - 1)
        self.indices, _ = nearest_neighbors(means.detach(), max(count, 0))

    @classmethod
    def from_indices(cls, indices: Tensor) -> NeighborPairs:
        """Pairs of a graph [N, k] that was found before."""
        pairs = cls.__new__(cls)
        pairs.indices = indices
        return pairs

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Pairs [E, 2] of `count` random splats with their neighbours."""
        total, k = self.indices.shape
        if k == 0:
            return torch.empty(0, 2, dtype=torch.int64, device=self.indices.device)
        chosen = torch.randint(total, (min(count, total),), generator=generator)
        return self.of(chosen.to(self.indices.device))

    def of(self, rows: Tensor) -> Tensor:
        """Pairs [R * k, 2] of these splats [R] int64 with their neighbours."""
        k = self.indices.shape[1]
        return torch.stack([rows.repeat_interleave(k), self.indices[rows].reshape(-1)], 1)
