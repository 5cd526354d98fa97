# SPDX-License-Identifier: Apache-2.0
"""Scores of one object against binary masks: NVOS and SPIn-NeRF.

Both report the IoU of the foreground and the accuracy over all pixels (Ren et al., CVPR 2022;
Mirzaei et al., CVPR 2023). The object is what a reference view points at, by scribbles or a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iqgs.evaluation.scores import ratio


@dataclass(frozen=True)
class Chosen:
    """The instance that a reference points at.

    id: 0 where no instance lies under the reference; covered: its share of the reference;
    wrong: its share of the negative scribble, nan where there is none.
    """

    id: int
    covered: float
    wrong: float


@dataclass(frozen=True)
class ObjectView:
    """One scored view: IoU of the object (1 where both masks are empty), share of right pixels."""

    view: str
    iou: float
    accuracy: float


def covering_instance(
    labels: np.ndarray, reference: np.ndarray, negative: np.ndarray | None = None
) -> Chosen:
    """The instance of a label map [H, W] that covers the most of the `reference`, bool [H, W].

    Of two that cover as much, the one with less of `negative` (bool [H, W]), then the smaller id.
    """
    labels = np.asarray(labels)
    ids, counts = np.unique(labels[reference], return_counts=True)
    wrong = np.zeros(len(ids), np.int64)
    if negative is not None:
        wrong = np.array([np.count_nonzero(labels[negative] == i) for i in ids], np.int64)
    found = np.flatnonzero(ids > 0)
    if not len(found):
        return Chosen(0, 0.0, 0.0)
    best = min(found, key=lambda k: (-counts[k], wrong[k], ids[k]))
    negatives = 0 if negative is None else int(np.count_nonzero(negative))
    covered = float(counts[best] / counts.sum())
    return Chosen(int(ids[best]), covered, ratio(float(wrong[best]), negatives))


def object_view(view: str, found: np.ndarray, truth: np.ndarray) -> ObjectView:
    """Scores of one view: found is bool [H, W], truth 1, 0 or -1 (not scored). ValueError."""
    if found.shape != truth.shape:
        raise ValueError(f"found {found.shape} and truth {truth.shape} differ in size")
    scored = truth >= 0
    ours, true = found[scored], truth[scored] == 1
    union = np.count_nonzero(ours | true)
    iou = float(np.count_nonzero(ours & true) / union) if union else 1.0
    accuracy = ratio(float(np.count_nonzero(ours == true)), ours.size)
    return ObjectView(view, iou, accuracy)


def object_values(views: Sequence[ObjectView], reference: str) -> dict[str, float | int]:
    """Means over views: IoU and accuracy of all, IoU_others of those but the reference view."""
    others = [view.iou for view in views if view.view != reference]
    return {
        "IoU": ratio(sum(view.iou for view in views), len(views)),
        "accuracy": ratio(sum(view.accuracy for view in views), len(views)),
        "IoU_others": ratio(sum(others), len(others)),
        "views": len(views),
    }
