# SPDX-License-Identifier: Apache-2.0
"""Instance masks of one view in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class InstanceMasks:
    """All masks of one view in one map."""

    label_map: NDArray[np.int32]  # [H, W], 0 = no instance, -1 = no target: in no loss, no score
    ids: tuple[int, ...]  # those present, ascending, without 0

    @classmethod
    def from_label_map(cls, label_map: NDArray[np.int32]) -> InstanceMasks:
        """Masks of a map, with its ids looked up."""
        return cls(label_map=label_map, ids=present_ids(label_map))


def present_ids(label_map: NDArray[np.int32]) -> tuple[int, ...]:
    """The positive values of an id map, ascending."""
    label_map = np.maximum(label_map, 0)
    top = int(label_map.max()) if label_map.size else 0
    # Counting is some thirty times faster than sorting, as long as the ids are small.
    if top < 1 << 20:
        found = np.flatnonzero(np.bincount(label_map.ravel()))
    else:
        found = np.unique(label_map)
    return tuple(int(value) for value in found if value)
