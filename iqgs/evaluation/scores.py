# SPDX-License-Identifier: Apache-2.0
"""Scores as functions of overlaps: panoptic quality, average precision, switches, intervals.

An instance counts as found where its IoU exceeds .5, which at most one partner can reach in label
maps; these scores need no assignment of identities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iqgs.evaluation.overlap import Overlap

FOUND_IOU = 0.5
AP_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_DRAWN_AT_ONCE = 1 << 20  # numbers of a bootstrap: bounds memory
_RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
# IoU and thresholds are rounded quotients: 3/4 has to reach .75.
_ROUNDING = 1e-9


def ratio(numerator: float, denominator: float) -> float:
    """Their quotient, nan where there is nothing to divide by."""
    return float(numerator) / float(denominator) if denominator else math.nan


def mean(values: np.ndarray) -> float:
    """Mean without the nans; nan if nothing is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


@dataclass(frozen=True)
class PanopticQuality:
    """PQ = SQ * RQ of one picture (Kirillov et al., arXiv 1801.00868), and precision and recall.

    All nan where there is neither a predicted nor a true instance; SQ is 0 where nothing is found.
    """

    pq: float
    sq: float
    rq: float
    precision: float
    recall: float


def panoptic_quality(overlap: Overlap) -> PanopticQuality:
    """PQ over instances of one class; RQ is the F1 score at IoU .5."""
    n_predicted, n_true = overlap.intersection.shape
    if not n_predicted + n_true:
        return PanopticQuality(*[math.nan] * 5)
    iou = overlap.iou
    found = iou[iou > FOUND_IOU]
    half = (n_predicted + n_true) / 2
    return PanopticQuality(
        pq=float(found.sum()) / half,
        sq=float(found.mean()) if len(found) else 0.0,
        rq=len(found) / half,
        precision=len(found) / n_predicted if n_predicted else 0.0,
        recall=len(found) / n_true if n_true else 0.0,
    )


def _true_positives(iou: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """COCO's greedy matching within a view, bool [P, T]: best score first, each truth used once."""
    hits = np.zeros((len(scores), len(AP_THRESHOLDS)), bool)
    if not iou.shape[1]:
        return hits
    free = np.ones((len(AP_THRESHOLDS), iou.shape[1]), bool)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, iou[i], -1.0)  # [T, G]
        best = candidates.argmax(1)
        hits[i] = candidates.max(1) >= AP_THRESHOLDS - _ROUNDING
        free[hits[i], best[hits[i]]] = False
    return hits


def average_precision(views: Sequence[tuple[Overlap, np.ndarray]]) -> dict[str, float]:
    """AP (mean over IoU .5:.95), AP50 and AP75 of COCO with one class and 101 recall levels.

    views: per image the overlap and a score per predicted instance [P]. nan without true instances.
    """
    n_true = sum(len(overlap.true) for overlap, _ in views)
    if not n_true:
        return {"AP": math.nan, "AP50": math.nan, "AP75": math.nan}
    scores = np.concatenate([scores for _, scores in views])
    hits = np.concatenate([_true_positives(overlap.iou, scores) for overlap, scores in views])
    hits = hits[np.argsort(-scores, kind="stable")].cumsum(0)  # [detections, T]
    recall = hits / n_true
    precision = hits / np.arange(1, len(hits) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    per_threshold = np.zeros(len(AP_THRESHOLDS))
    for t in range(len(AP_THRESHOLDS)):
        first = np.searchsorted(recall[:, t], _RECALL_LEVELS - _ROUNDING)
        reached = first < len(hits)
        per_threshold[t] = precision[first[reached], t].sum() / len(_RECALL_LEVELS)
    return {"AP": float(per_threshold.mean()), "AP50": per_threshold[0], "AP75": per_threshold[5]}


def identity_switches(views: Sequence[Overlap]) -> dict[int, int]:
    """How often each true object changes its predicted id, between views in which it is found."""
    last: dict[int, int] = {}
    switches: dict[int, int] = {}
    for overlap in views:
        for object_id in overlap.true.tolist():
            switches.setdefault(object_id, 0)
        for i, j in np.argwhere(overlap.iou > FOUND_IOU):
            object_id, found_as = int(overlap.true[j]), int(overlap.predicted[i])
            switches[object_id] += last.get(object_id, found_as) != found_as
            last[object_id] = found_as
    return switches


def bootstrap_interval(
    values: np.ndarray, samples: int, generator: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` [n] under resampling; nan if n is 0."""
    if not len(values):
        return math.nan, math.nan
    at_once = max(1, _DRAWN_AT_ONCE // len(values))
    means = np.concatenate(
        [
            values[generator.integers(0, len(values), (rows, len(values)))].mean(axis=1)
            for rows in (min(at_once, samples - done) for done in range(0, samples, at_once))
        ]
    )
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
