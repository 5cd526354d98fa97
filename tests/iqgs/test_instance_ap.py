# SPDX-License-Identifier: Apache-2.0
"""AP on points against hand-worked cases, a slow scorer on masks, and scikit-learn's curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_curve

from iqgs.evaluation.instance_ap import (
    THRESHOLDS,
    ScanOverlap,
    instance_ap,
    scan_overlap,
)


def spread(**sizes: int) -> np.ndarray:
    """spread(a3=10, b0=5): ten points of id 3, five of id 0, in this order."""
    return np.concatenate([np.full(n, int(name[1:])) for name, n in sizes.items()])


def test_a_perfect_scan_is_one_and_an_empty_one_zero() -> None:
    truth = spread(a1=200, b2=300, c0=50)
    perfect = instance_ap([scan_overlap(truth, truth, {1: 0.4, 2: 0.9})])
    assert perfect == {"AP": 1.0, "AP50": 1.0, "AP25": 1.0}
    nothing = instance_ap([scan_overlap(np.zeros_like(truth), truth, {})])
    assert nothing == {"AP": 0.0, "AP50": 0.0, "AP25": 0.0}
    assert math.isnan(instance_ap([scan_overlap(truth, np.zeros_like(truth), {1: 1, 2: 1})])["AP"])


def test_the_thresholds_are_those_of_the_released_scorer() -> None:
    """np.arange(.5, .95, .05) of the benchmark ends at .90."""
    np.testing.assert_allclose(THRESHOLDS, np.arange(0.5, 0.95, 0.05))


def test_one_hit_one_miss_and_one_invention_by_hand() -> None:
    """Prediction 7 is object 1 (confidence .5), prediction 9 half of object 2 (.9): wrong at .5.

    Points of the curve (recall, precision): (0, 1), (0, 0), (1/2, 1/2); trapezoids:
    1/2 * (0 + 1/2) / 2 = 1/8.
    """
    truth = spread(a1=200, b2=400)
    predicted = spread(a7=200, b9=200, c0=200)
    scores = instance_ap([scan_overlap(predicted, truth, {7: 0.5, 9: 0.9})])
    assert scores["AP50"] == pytest.approx(1 / 8)  # IoU .5 does not exceed .5
    assert scores["AP25"] == pytest.approx(1.0)
    assert scores["AP"] == pytest.approx(1 / 8)


def test_equal_confidences_are_one_point_of_the_curve() -> None:
    """Both at once: recall 1/2, precision 1/2 -> (1 + 1/2) / 2 * 1/2 = 3/8."""
    truth, predicted = spread(a1=200, b2=400), spread(a7=200, b9=200, c0=200)
    assert instance_ap([scan_overlap(predicted, truth, {7: 1, 9: 1})])["AP50"] == pytest.approx(
        0.375
    )


def test_the_surer_of_two_parts_is_right_and_the_other_wrong() -> None:
    """An object in two parts of IoU .4 and .6, at threshold .25: (1, 1) is reached first."""
    truth = spread(a1=1000)
    predicted = spread(a2=400, b3=600)
    sure = instance_ap([scan_overlap(predicted, truth, {2: 0.9, 3: 0.1})])
    assert sure["AP25"] == pytest.approx(1.0)  # the wrong one comes last, at full recall
    assert sure["AP50"] == pytest.approx(0.25)  # part 2 is wrong and first: 1/2 * (0 + 1/2)
    tied = instance_ap([scan_overlap(predicted, truth, {2: 0.5, 3: 0.5})])
    assert tied["AP25"] == pytest.approx((1 + 0.5) / 2)


def test_a_doubled_prediction_may_still_be_right_elsewhere() -> None:
    """Prediction 2 has IoU 1/3 with both objects; of object 1 prediction 1 comes first.

    At .25: right for object 1 (.9, with a wrong double of .5) and for object 2 (.5). Curve:
    (0, 1), (1/2, 1), (1, 2/3).
    """
    truth = spread(a1=300, b2=300)
    predicted = spread(a1=150, b2=300, c0=150)
    scores = instance_ap([scan_overlap(predicted, truth, {1: 0.9, 2: 0.5})])
    assert scores["AP25"] == pytest.approx(0.5 + 0.5 * (1 + 2 / 3) / 2)


def test_what_lies_on_nothing_that_is_scored_is_forgiven() -> None:
    """Void and true instances that are too small are held against nobody, beyond the threshold."""
    truth = spread(a1=200, b0=300, c5=50)
    surer = {1: 0.5, 3: 0.9}  # prediction 3 would come first, and be wrong
    forgiven = spread(a1=200, b3=300, c3=50)
    assert instance_ap([scan_overlap(forgiven, truth, surer)])["AP"] == 1.0
    truth = spread(a1=400, b0=90, c5=10)  # 3: half on object 1 (IoU .2), 90 % of the rest on void
    half = spread(a1=300, b3=100, c3=90, d3=10)
    scores = instance_ap([scan_overlap(half, truth, surer)])
    assert scores["AP25"] == 1.0  # half of it lies on nothing: more than a quarter
    assert scores["AP50"] == pytest.approx(0.25)  # but not more than half: (0 + 1/2) / 2


def test_small_regions_are_left_out_on_both_sides() -> None:
    truth, predicted = spread(a1=99, b2=200), spread(a8=99, b9=200)
    assert instance_ap([scan_overlap(predicted, truth, {8: 0.1, 9: 0.9})])["AP"] == 1.0
    # the one of 99 is dropped although it is right, and its true instance is not missed
    small = instance_ap([scan_overlap(predicted, truth, {8: 0.1, 9: 0.9})], min_points=10)
    assert small["AP"] == 1.0
    lost = spread(a0=99, b9=200)
    assert instance_ap([scan_overlap(lost, truth, {9: 0.9})])["AP"] == 1.0
    one = instance_ap([scan_overlap(lost, truth, {9: 0.9})], min_points=10)
    assert one["AP"] == pytest.approx(0.5)


Scan = tuple[list[np.ndarray], list[float], np.ndarray]  # masks, confidences, true ids


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def slow_matches(scan: Scan, threshold: float, smallest: int) -> tuple[list[float], list[float]]:
    """Confidences of the right and of the wrong ones among what matches; a miss is -1."""
    masks, confidences, truth = scan
    right, wrong = [], []
    used: set[int] = set()
    for number in np.unique(truth[truth > 0]):
        if (truth == number).sum() < smallest:
            continue
        best = -1.0
        for k, mask in enumerate(masks):
            if k in used or not iou(mask, truth == number) > threshold:
                continue
            if best < 0:
                used.add(k)
            else:
                wrong.append(min(best, confidences[k]))
            best = max(best, confidences[k])
        right.append(best)
    return right, wrong


def slow_inventions(scan: Scan, threshold: float, smallest: int) -> list[float]:
    """Confidences of what matches nothing and does not lie on nothing."""
    masks, confidences, truth = scan
    ids = np.unique(truth[truth > 0])
    void = np.isin(truth, [0, *(i for i in ids if (truth == i).sum() < smallest)])
    return [
        confidence
        for mask, confidence in zip(masks, confidences, strict=True)
        if not any(iou(mask, truth == i) > threshold for i in ids)
        and (mask & void).sum() / mask.sum() <= threshold
    ]


def slow_ap(scans: list[Scan], threshold: float, smallest: int) -> float:
    """The published algorithm written out on masks, its curve by scikit-learn."""
    right, wrong = [], []
    for masks, confidences, truth in scans:
        kept = [k for k, mask in enumerate(masks) if mask.sum() >= smallest]
        scan = ([masks[k] for k in kept], [confidences[k] for k in kept], truth)
        matched, doubled = slow_matches(scan, threshold, smallest)
        right += matched
        wrong += [*doubled, *slow_inventions(scan, threshold, smallest)]
    found = [score for score in right if score >= 0]
    if not found:
        return 0.0
    labels = [1] * len(found) + [0] * len(wrong)
    precision, recall, _ = precision_recall_curve(labels, found + wrong)
    return float(auc(recall * len(found) / len(right), precision))


@pytest.mark.parametrize("seed", range(8))
def test_it_equals_the_published_algorithm_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slow, fast = [], []
    for _ in range(3):
        truth = np.repeat(rng.integers(0, 7, 30), rng.integers(5, 40, 30))
        predicted = np.where(rng.random(len(truth)) < 0.2, rng.integers(0, 9, len(truth)), truth)
        predicted[predicted == 2] = 3  # merged
        predicted[(predicted == 4) & (np.arange(len(truth)) % 2 == 0)] = 11  # split
        ids = [int(i) for i in np.unique(predicted) if i]
        confidence = {i: float(rng.choice([0.2, 0.4, 0.6, 0.8])) for i in ids}
        fast.append(scan_overlap(predicted, truth, confidence))
        slow.append(([predicted == i for i in ids], list(confidence.values()), truth))
    ours = instance_ap(fast, min_points=30)
    for key, threshold in (("AP50", 0.5), ("AP25", 0.25)):
        assert ours[key] == pytest.approx(slow_ap(slow, threshold, 30))
    mean = np.mean([slow_ap(slow, threshold, 30) for threshold in THRESHOLDS])
    assert ours["AP"] == pytest.approx(mean)
    assert 0 < ours["AP"] < ours["AP25"] < 1


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="twice"):
        scan_overlap(np.zeros(3, int), np.zeros(4, int), {})
    empty = ScanOverlap(np.zeros((0, 0)), *[np.zeros(0)] * 4)
    assert math.isnan(instance_ap([empty])["AP50"])
