# SPDX-License-Identifier: Apache-2.0
"""Average precision of instances on points, as the ScanNet and ScanNet++ benchmarks compute it.

Their released scorer, for one class ("class-agnostic"). It is not COCO's: IoU must *exceed* a
threshold, AP is the mean over .50, .55 ... .90 (.95 is left out by the scorer's own range), the
precision-recall curve is integrated by trapezoids from the point (recall 0, precision 1), and a
prediction that mostly covers what is not scored is forgiven. Void is what no true instance covers.

Notation: P predicted and G true instances of a scan of V points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))
LOOSE = 0.25  # AP25 stands apart, outside of the mean
MIN_POINTS = 100  # smaller regions are left out


@dataclass(frozen=True, eq=False)
class ScanOverlap:
    """What the scorer needs to know of one scan.

    intersection [P, G], predicted_size [P], true_size [G], void [P] (points of a prediction that
    no true instance covers) in points; confidence [P]; larger comes first.
    """

    intersection: np.ndarray
    predicted_size: np.ndarray
    true_size: np.ndarray
    void: np.ndarray
    confidence: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of every pair, float64 [P, G]."""
        union = self.predicted_size[:, None] + self.true_size[None, :] - self.intersection
        return self.intersection / np.maximum(union, 1)


def scan_overlap(
    predicted: np.ndarray, truth: np.ndarray, confidence: Mapping[int, float]
) -> ScanOverlap:
    """Overlap of labelled points: predicted and truth are ids [V] >= 0, where 0 is no instance.

    confidence: of every predicted id. ValueError where the two differ in length.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or predicted.ndim != 1:
        raise ValueError(f"expected ids [V] twice, got {predicted.shape} and {truth.shape}")
    ours, row = np.unique(np.append(predicted, 0), return_inverse=True)
    true, column = np.unique(np.append(truth, 0), return_inverse=True)
    counts = np.zeros((len(ours), len(true)), np.int64)
    np.add.at(counts, (row[:-1], column[:-1]), 1)
    return ScanOverlap(
        counts[1:, 1:],
        counts.sum(1)[1:],
        counts.sum(0)[1:],
        counts[1:, 0],
        np.array([confidence[int(i)] for i in ours[1:]], np.float64),
    )


def instance_ap(scans: Sequence[ScanOverlap], min_points: int = MIN_POINTS) -> dict[str, float]:
    """AP (mean over THRESHOLDS), AP50 and AP25 over all scans; nan without a true instance.

    Predictions of fewer than `min_points` points are dropped. True instances of fewer are neither
    asked for nor held against a prediction.
    """
    kept = [_large_predictions(scan, min_points) for scan in scans]
    strict = [_one_threshold(kept, threshold, min_points) for threshold in THRESHOLDS]
    return {
        "AP": float(np.mean(strict)),
        "AP50": strict[0],
        "AP25": _one_threshold(kept, LOOSE, min_points),
    }


def _large_predictions(scan: ScanOverlap, min_points: int) -> ScanOverlap:
    large = scan.predicted_size >= min_points
    return ScanOverlap(
        scan.intersection[large],
        scan.predicted_size[large],
        scan.true_size,
        scan.void[large],
        scan.confidence[large],
    )


def _one_threshold(scans: Sequence[ScanOverlap], threshold: float, min_points: int) -> float:
    hits, scores, missed = [], [], 0
    for scan in scans:
        scan_hits, scan_scores, scan_missed = _judge(scan, threshold, min_points)
        hits += scan_hits
        scores += scan_scores
        missed += scan_missed
    if not any((scan.true_size >= min_points).any() for scan in scans):
        return math.nan
    if not any(len(scan.confidence) for scan in scans):
        return 0.0
    return _area(np.array(hits, bool), np.array(scores), missed)


def _judge(
    scan: ScanOverlap, threshold: float, min_points: int
) -> tuple[list[bool], list[float], int]:
    """The predictions of a scan that count: right or wrong, their confidence; and the misses.

    Of several predictions for one true instance the surest is right and the others are wrong; only
    the first is then taken for the true instances after it (below IoU .5 one may fit two).
    """
    enough = scan.iou > threshold
    asked = scan.true_size >= min_points
    taken = np.zeros(len(scan.confidence), bool)
    hits: list[bool] = []
    scores: list[float] = []
    missed = 0
    for instance in np.flatnonzero(asked):
        fitting = [p for p in np.flatnonzero(enough[:, instance]) if not taken[p]]
        if not fitting:
            missed += 1
            continue
        taken[fitting[0]] = True
        ranked = sorted((float(scan.confidence[p]) for p in fitting), reverse=True)
        hits += [True] + [False] * (len(ranked) - 1)
        scores += ranked
    forgiven = scan.void + scan.intersection[:, ~asked].sum(1)
    for p in np.flatnonzero(~enough.any(1)):
        if forgiven[p] / scan.predicted_size[p] <= threshold:
            hits.append(False)
            scores.append(float(scan.confidence[p]))
    return hits, scores, missed


def _area(hits: np.ndarray, scores: np.ndarray, missed: int) -> float:
    """Area below the precision-recall curve, one point for each different confidence."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    right = np.cumsum(hits[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each different confidence
    recall = np.append(0.0, right[last] / (hits.sum() + missed))
    precision = np.append(1.0, right[last] / (last + 1))
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2))
