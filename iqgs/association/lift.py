# SPDX-License-Identifier: Apache-2.0
"""Masks of images lifted to the splats: how much of each splat lies inside each mask.

Notation: N splats, V views, M masks of all views together, pixel p of view v, blending weight
w_s(p) of splat s (Eq. 1). Everything is sparse; a splat is seen in some views, in each of them by a
mask or two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MIN_PIXELS = 4  # smaller masks are slivers and say nothing

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MaskView:
    """P pixels of one view, all or a sample of them: their blending weights and what masks say."""

    weights: sparse.csr_matrix  # [P, N] float32
    labels: NDArray[np.integer]  # [P] ids of the view's masks; 0: no instance, -1: nobody said


@dataclass(frozen=True, eq=False)
class LiftedMasks:
    """M masks of V views over N splats."""

    inside: sparse.csc_matrix  # [N, M] float32: sum of w_s over the pixels of the mask
    visible: sparse.csc_matrix  # [N, V] float32: sum of w_s over all pixels of the view
    zero: Floats  # [N] the same over the pixels of id 0 of all views; zeros where 0 says nothing
    view: Ids  # [M]
    ids: Ids  # [M] the number of the mask in its label map
    area: Ids  # [M] pixels

    def __len__(self) -> int:
        return len(self.view)

    @property
    def n_views(self) -> int:
        return int(self.visible.shape[1])

    @property
    def n_splats(self) -> int:
        return int(self.visible.shape[0])

    def of_view(self, view: int) -> Ids:
        """The masks [m] of one view; they lie beside each other."""
        first, last = np.searchsorted(self.view, [view, view + 1])
        return np.arange(first, last)

    def index_map(self, view: int, label_map: NDArray[np.integer]) -> Ids:
        """The mask of every pixel [H, W] of a view; -1 where there is none."""
        masks = self.of_view(view)
        if not len(masks):
            return np.full(label_map.shape, -1, np.int64)
        at = np.searchsorted(self.ids[masks], label_map).clip(max=len(masks) - 1)
        found = self.ids[masks][at] == label_map
        return np.where(found, masks[at], -1)


def lift(views: Iterable[MaskView], n_splats: int, zero_is_background: bool) -> LiftedMasks:
    """Lift the masks of all views. Views are looked at one after the other and not kept."""
    inside, visible, view_of, ids, areas = [], [], [], [], []
    zero = np.zeros(n_splats, np.float32)
    for number, view in enumerate(views):
        labels = np.asarray(view.labels, np.int64)
        if view.weights.shape != (len(labels), n_splats):
            found, wanted = view.weights.shape, (len(labels), n_splats)
            raise ValueError(f"view {number}: expected weights {wanted}, got {found}")
        present, position, count = np.unique(labels, return_inverse=True, return_counts=True)
        chosen = (present > 0) & (count >= MIN_PIXELS)
        member = sparse.csr_matrix(
            (np.ones(len(labels), np.float32), position, np.arange(len(labels) + 1)),
            shape=(len(labels), len(present)),
        )
        lifted = (view.weights.T @ member).tocsc()
        inside.append(lifted[:, chosen])
        visible.append(sparse.csc_matrix(lifted.sum(axis=1, dtype=np.float32)))
        if zero_is_background and 0 in present:
            zero += lifted[:, np.searchsorted(present, 0)].toarray()[:, 0]
        view_of.append(np.full(int(chosen.sum()), number, np.int64))
        ids.append(present[chosen])
        areas.append(count[chosen])
    if not inside:
        raise ValueError("expected at least one view to lift masks from")
    return LiftedMasks(
        sparse.hstack(inside, format="csc", dtype=np.float32),
        sparse.hstack(visible, format="csc", dtype=np.float32),
        zero,
        np.concatenate(view_of),
        np.concatenate(ids),
        np.concatenate(areas),
    )
