# SPDX-License-Identifier: Apache-2.0
"""Our counts against other people's code, and against slow code that follows the definitions."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality
from torchmetrics.segmentation import MeanIoU

from iqgs.evaluation.overlap import best_assignment, count_overlap
from iqgs.evaluation.scorer import SceneScorer
from iqgs.evaluation.scores import average_precision, panoptic_quality


def noisy_view(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A patchwork and a copy with wrong pixels, merged, lost and invented instances; [36, 48]."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 9, (6, 8)), np.ones((6, 6), np.int64))
    prediction = np.roll(truth, rng.integers(0, 2), axis=1)
    wrong = rng.random(truth.shape) < rng.choice([0.02, 0.1])
    prediction = np.where(wrong, rng.integers(0, 12, truth.shape), prediction)
    prediction[prediction == 3] = 4
    prediction[prediction == 5] = 0
    return prediction, truth


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_quality_equals_torchmetrics(seed: int) -> None:
    prediction, truth = noisy_view(seed)
    metric = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    pair = [
        torch.from_numpy(np.stack([labels > 0, labels], axis=-1).astype(np.int64))[None]
        for labels in (prediction, truth)
    ]
    pq, sq, rq = metric(*pair)[0].tolist()  # the class of things comes first
    ours = panoptic_quality(count_overlap(prediction, truth))
    assert (ours.pq, ours.sq, ours.rq) == pytest.approx((pq, sq, rq), abs=1e-6)
    assert 0.1 < ours.pq < 0.95


def slow_average_precision(
    views: list[tuple[np.ndarray, np.ndarray, dict[int, float]]], threshold: float
) -> float:
    """One detection after the other over the whole scene; precision at each recall by a maximum."""
    n_true = sum(len(np.unique(truth[truth > 0])) for _, truth, _ in views)
    detections = sorted(
        ((s, v, i) for v, view in enumerate(views) for i, s in view[2].items()), reverse=True
    )
    used: set[tuple[int, int]] = set()
    curve = []
    hits = 0
    for rank, (_, v, i) in enumerate(detections, start=1):
        prediction, truth, _ = views[v]
        ours = prediction == i
        best, best_iou = 0, 0.0
        for j in np.unique(truth[truth > 0]).tolist():
            iou = (ours & (truth == j)).sum() / (ours | (truth == j)).sum()
            if (v, j) not in used and iou > best_iou:
                best, best_iou = j, iou
        if best_iou >= threshold:
            used.add((v, best))
            hits += 1
        curve.append((hits / n_true, hits / rank))
    levels = [max((p for r, p in curve if r >= 0.01 * k - 1e-9), default=0.0) for k in range(101)]
    return float(np.mean(levels))


def test_average_precision_equals_the_definition() -> None:
    rng = np.random.default_rng(0)
    views = []
    for seed in range(4):
        prediction, truth = noisy_view(seed)
        ids = np.unique(prediction[prediction > 0]).tolist()
        views.append((prediction, truth, dict(zip(ids, rng.random(len(ids)), strict=True))))
    overlaps = [(count_overlap(p, t), np.array([s[i] for i in sorted(s)])) for p, t, s in views]
    ours = average_precision(overlaps)
    slow = [slow_average_precision(views, k / 20) for k in range(10, 20)]
    assert ours["AP50"] == pytest.approx(slow[0])
    assert ours["AP75"] == pytest.approx(slow[5])
    assert ours["AP"] == pytest.approx(np.mean(slow))
    assert 0.2 < ours["AP"] < 0.9


def test_mean_iou_by_id_equals_torchmetrics() -> None:
    """Over one view, the mean over true instances is the per-class IoU without the background."""
    prediction, truth = noisy_view(1)
    metric = MeanIoU(num_classes=12, include_background=False, per_class=True, input_format="index")
    per_class = metric(torch.from_numpy(prediction)[None], torch.from_numpy(truth)[None]).numpy()
    present = np.unique(truth[truth > 0])
    scorer = SceneScorer("id", "background")
    scorer.add_view("only", prediction, truth)
    result = scorer.result()
    assert result.values["mIoU_gt"] == pytest.approx(per_class[present - 1].mean(), abs=1e-6)
    for row in result.objects:
        assert row.iou == pytest.approx(per_class[row.id - 1], abs=1e-6)


def test_assignment_is_the_best_of_all_permutations() -> None:
    prediction, truth = noisy_view(2)
    prediction, truth = prediction * (prediction < 7), truth * (truth < 6)
    overlap = count_overlap(prediction, truth)
    n_predicted, n_true = overlap.iou.shape
    assert n_predicted <= n_true
    best = max(
        sum(overlap.iou[i, j] for i, j in enumerate(columns))
        for columns in permutations(range(n_true), n_predicted)
    )
    rows = {int(k): i for i, k in enumerate(overlap.predicted)}
    columns = {int(k): j for j, k in enumerate(overlap.true)}
    chosen = best_assignment(overlap)
    assert sum(overlap.iou[rows[p], columns[t]] for p, t in chosen.items()) == pytest.approx(best)
