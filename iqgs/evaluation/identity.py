# SPDX-License-Identifier: Apache-2.0
"""Whether masks of different views that are one object have one id: IDF1 and HOTA.

IDF1 (Ristani et al., ECCV 2016) matches whole identities once, over all views; HOTA (Luiten et al.,
IJCV 2021) is the geometric mean of how well masks are detected and how well they are associated,
averaged over thresholds of IoU.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

SAME = 0.5  # IoU from which two masks are one detection, for IDF1
ALPHAS = np.arange(0.05, 0.96, 0.05)  # of HOTA
EPS = 1e-9

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _ViewOverlap:
    truth: Ids  # [T] true ids in the view
    found: Ids  # [P] other ids
    iou: Floats  # [T, P]


@dataclass
class IdentityScorer:
    """Collects views; the ids of the two sides need not be the same."""

    views: list[_ViewOverlap] = field(default_factory=list)

    def add_view(self, truth: NDArray[np.integer], found: NDArray[np.integer]) -> None:
        """Label maps [H, W], 0 = no instance. Pixels of truth -1 are not looked at; what is -1 in
        `found` is no instance there.
        """
        known, found = truth >= 0, np.maximum(found, 0)
        true_ids, rows = np.unique(truth[known], return_inverse=True)
        found_ids, columns = np.unique(found[known], return_inverse=True)
        both = np.zeros((len(true_ids), len(found_ids)))
        np.add.at(both, (rows, columns), 1)
        union = both.sum(1)[:, None] + both.sum(0)[None] - both
        inside = np.ix_(true_ids > 0, found_ids > 0)
        self.views.append(
            _ViewOverlap(
                true_ids[true_ids > 0], found_ids[found_ids > 0], (both / union.clip(EPS))[inside]
            )
        )

    def result(self) -> dict[str, float]:
        """IDF1, HOTA, DetA, AssA in 0..1; nan where no view has any mask."""
        nothing = [np.zeros(0, np.int64)]
        truths = np.unique(np.concatenate([*nothing, *(view.truth for view in self.views)]))
        founds = np.unique(np.concatenate([*nothing, *(view.found for view in self.views)]))
        if not len(truths) and not len(founds):
            return dict.fromkeys(("IDF1", "HOTA", "DetA", "AssA"), float("nan"))
        rows = [np.searchsorted(truths, v.truth) for v in self.views]
        columns = [np.searchsorted(founds, v.found) for v in self.views]
        count_true = np.bincount(np.concatenate(rows), minlength=len(truths))
        count_found = np.bincount(np.concatenate(columns), minlength=len(founds))
        shape = (len(truths), len(founds))
        potential = np.zeros(shape)
        same = np.zeros(shape)
        for view, row, column in zip(self.views, rows, columns, strict=True):
            total = view.iou.sum(0)[None] + view.iou.sum(1)[:, None] - view.iou
            np.add.at(potential, np.ix_(row, column), view.iou / total.clip(EPS))
            np.add.at(same, np.ix_(row, column), view.iou >= SAME)
        alignment = potential / (count_true[:, None] + count_found[None] - potential).clip(EPS)
        detected, associated = [], []
        matches = [
            self._matched(view, alignment[np.ix_(row, column)])
            for view, row, column in zip(self.views, rows, columns, strict=True)
        ]
        for alpha in ALPHAS:
            pairs = np.zeros(shape)
            for (one, two, iou), row, column in zip(matches, rows, columns, strict=True):
                kept = iou >= alpha - EPS
                np.add.at(pairs, (row[one[kept]], column[two[kept]]), 1)
            hits = pairs.sum()
            union = count_true[:, None] + count_found[None] - pairs
            detected.append(hits / max(count_true.sum() + count_found.sum() - hits, 1))
            associated.append((pairs * pairs / union.clip(1)).sum() / max(hits, 1))
        hota = np.sqrt(np.array(detected) * np.array(associated))
        return {
            "IDF1": self._idf1(same, count_true, count_found),
            "HOTA": float(hota.mean()),
            "DetA": float(np.mean(detected)),
            "AssA": float(np.mean(associated)),
        }

    @staticmethod
    def _matched(view: _ViewOverlap, alignment: Floats) -> tuple[Ids, Ids, Floats]:
        """Pairs of masks of a view, by overlap and by how well their identities fit over all."""
        one, two = linear_sum_assignment(-alignment * view.iou)
        return one, two, view.iou[one, two]

    @staticmethod
    def _idf1(same: Floats, count_true: Ids, count_found: Ids) -> float:
        """2 IDTP / (masks of both sides): one identity of either side belongs to one other."""
        one, two = linear_sum_assignment(-same)
        return float(2 * same[one, two].sum() / (count_true.sum() + count_found.sum()))
