# SPDX-License-Identifier: Apache-2.0
"""Scores of what lies beneath the pixels: labelled points, and objects rendered alone."""

from __future__ import annotations

import numpy as np

from iqgs.evaluation.overlap import comparable_pair, count_overlap
from iqgs.evaluation.scores import mean
from iqgs.evaluation.views import pair_views


def mask_iou(rendered_alpha: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> float:
    """IoU of an object rendered alone, alpha [H, W] > threshold, with its mask; 1 if both empty.

    The only score that sees what an object drags along behind the others.
    """
    alpha, mask = np.asarray(rendered_alpha), np.asarray(truth) != 0
    if alpha.shape != mask.shape:
        raise ValueError(f"alpha {alpha.shape} and mask {mask.shape} differ in size")
    found = alpha > threshold
    union = int((found | mask).sum())
    return int((found & mask).sum()) / union if union else 1.0


def point_scores(
    predicted: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    matching: str,
    zero_label: str,
) -> dict[str, float]:
    """mIoU of labelled points, {"mIoU_3d", "mIoU_3d_weighted"}; the latter only with weights.

    predicted, truth: ids [N], 0 = no instance; weights [N] >= 0, surface area times opacity. Mean
    over true objects, missed = 0; matching and zero_label as of SceneScorer.
    """
    pair = comparable_pair(
        np.atleast_2d(predicted), np.atleast_2d(truth), zero_label, min_true=1, min_predicted=1
    )
    overlaps = {"mIoU_3d": count_overlap(*pair)}
    if weights is not None:
        overlaps["mIoU_3d_weighted"] = count_overlap(*pair, np.asarray(weights, np.float64))
    scores = {}
    for key, overlap in overlaps.items():
        (pairing,), _ = pair_views([overlap], [overlap], matching)
        scores[key] = mean(pairing.true[overlap.true_area > 0])
    return scores
