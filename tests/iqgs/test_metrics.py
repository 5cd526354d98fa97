# SPDX-License-Identifier: Apache-2.0
"""The scores against a table that a slow, independent script made, and against hand counts."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from iqgs.evaluation.overlap import count_overlap, outline_pixels
from iqgs.evaluation.scorer import PROTOCOLS, SceneScorer, SceneScores, mask_iou, point_scores
from iqgs.evaluation.scores import bootstrap_interval


def score(
    prediction: np.ndarray, truth: np.ndarray, matching: str = "id", zero_label: str = "background"
) -> SceneScores:
    """Scores of stacks of label maps [V, H, W]."""
    scorer = SceneScorer(matching, zero_label)
    for number, (ours, true) in enumerate(zip(prediction, truth, strict=True)):
        scorer.add_view(f"{number:03d}.png", ours, true)
    return scorer.result()


def two_views() -> tuple[np.ndarray, np.ndarray]:
    """Truth: object 1 of 4 pixels twice, object 2 of 2 pixels in the first view only."""
    truth = np.zeros((2, 4, 4), np.int64)
    truth[:, 0] = 1
    truth[0, 2, :2] = 2
    prediction = np.zeros_like(truth)
    prediction[0, 0, :3] = 1  # IoU 3/4
    prediction[0, 2, :] = 2  # IoU 2/4
    prediction[1, 0] = 1
    prediction[1, 1] = 1  # IoU 4/8
    prediction[1, 3, 3] = 5
    return prediction, truth


def test_scores_counted_by_hand() -> None:
    scores = score(*two_views())
    values = scores.values
    assert values["mIoU_pred"] == pytest.approx((0.75 + 0.5 + 0.5 + 0) / 4)
    assert values["mIoU_gt"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert values["mIoU_objects"] == pytest.approx((0.625 + 0.5) / 2)
    # View 1: one of two found at .75; view 2: an IoU of exactly .5 is not found.
    assert values["PQ"] == pytest.approx((0.75 / 2 + 0) / 2)
    assert values["SQ"] == pytest.approx(0.75 / 2)
    assert values["RQ"] == pytest.approx(0.5 / 2)
    # Tubes: object 1 has 7 of 12 pixels right, object 2 has 2 of 4; 5 is no object.
    assert values["PQ_scene"] == pytest.approx(7 / 12 / 2.5)
    assert (values["precision"], values["recall"]) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert values["F1"] == pytest.approx(1 / 2.5)
    assert values["coverage"] == pytest.approx(9 / 10)
    assert (values["gt_instances"], values["pred_instances"], values["objects"]) == (3, 4, 2)
    assert scores.per_view["000.png"]["mIoU_pred"] == pytest.approx(0.625)
    assert [(o.id, o.iou, o.views, o.area) for o in scores.objects] == [
        (1, pytest.approx(0.625), 2, 8),
        (2, pytest.approx(0.5), 1, 2),
    ]


def test_average_precision_by_hand() -> None:
    prediction, truth = two_views()
    scorer = SceneScorer("id", "background")
    scorer.add_view("a", prediction[0], truth[0], {1: 0.9, 2: 0.2})
    scorer.add_view("b", prediction[1], truth[1], {1: 0.3, 5: 0.8})
    values = scorer.result().values
    # By score: hit, miss (5), hit, hit -> precision 1 to recall 1/3, then 3/4.
    assert values["AP50"] == pytest.approx((34 * 1 + 67 * 0.75) / 101)
    # At .75 only the first is right: recall 1/3 at precision 1.
    assert values["AP75"] == pytest.approx(34 / 101)
    without_scores = score(prediction, truth).values
    # By area: object 1 of view b (8), 2 of a (4), 1 of a (3), 5 (1): three hits and then the miss.
    assert without_scores["AP50"] == pytest.approx(1.0)
    assert without_scores["AP75"] == pytest.approx(34 * (1 / 3) / 101)


def test_boundary_iou_against_repeated_erosion() -> None:
    rng = np.random.default_rng(1)
    labels = np.kron(rng.integers(0, 4, (6, 7)), np.ones((9, 8), np.int64))
    for width in (1, 2, 5):
        expected = np.zeros(labels.shape, bool)
        for k in range(4):
            region = labels == k
            expected |= region & ~binary_erosion(region, np.ones((3, 3)), iterations=width)
        np.testing.assert_array_equal(outline_pixels(labels, width), expected)

    truth = np.zeros((1, 40, 30), np.int64)  # diagonal 50: boundaries one pixel wide
    truth[0, 5:15, 5:15] = 1
    prediction = np.roll(truth, 1, axis=2)
    # Two rings of 36 pixels share two runs of nine on top and bottom.
    assert score(prediction, truth).values["mBIoU"] == pytest.approx(18 / (72 - 18))


def test_a_prediction_on_background_counts_only_if_zero_is_background() -> None:
    truth = np.zeros((1, 4, 4), np.int64)
    truth[0, :2] = 3
    prediction = np.full_like(truth, 3)
    prediction[0, 3] = 9
    background, ignore = (
        score(prediction, truth, "id", z).values for z in ("background", "ignore")
    )
    assert background["mIoU_pred"] == pytest.approx((8 / 12 + 0) / 2)
    assert background["pred_instances"] == 2
    assert ignore["mIoU_pred"] == ignore["PQ"] == ignore["mBIoU"] == 1.0
    assert ignore["pred_instances"] == 1


def test_background_is_an_instance_on_neither_side() -> None:
    truth = np.zeros((2, 4, 4), np.int64)
    prediction = np.zeros_like(truth)
    truth[0, 0, 0] = prediction[0, 0, 0] = 1
    values = score(prediction, truth).values
    assert (values["gt_instances"], values["pred_instances"]) == (1, 1)
    assert values["mIoU_pred"] == values["PQ"] == values["AP"] == 1.0


def test_switches_count_changes_of_the_id_that_found_an_object() -> None:
    truth = np.zeros((5, 4, 4), np.int64)
    truth[:, :2], truth[:, 2:] = 1, 2
    prediction = truth.copy()
    prediction[2, :2] = 7  # 1, 1, 7, lost, 1: two switches
    prediction[3, :2] = 0
    scores = score(prediction, truth)
    assert [row.switches for row in scores.objects] == [2, 0]
    assert scores.values["id_switches"] == 1.0


def test_scene_matching_reports_its_assignment() -> None:
    prediction, truth = two_views()
    renamed = np.choose(prediction, [0, 40, 50, 0, 0, 60])
    scores = score(renamed, truth, "scene")
    assert scores.assignment == {40: 1, 50: 2}
    assert scores.values["mIoU_gt"] == score(prediction, truth).values["mIoU_gt"]


def test_min_area_drops_specks_but_not_from_the_strict_score() -> None:
    prediction, truth = two_views()
    scorer = SceneScorer("id", "background", min_area=2)
    for v in range(2):
        scorer.add_view(str(v), prediction[v], truth[v])
    values = scorer.result().values
    assert values["pred_instances"] == 3
    assert values["mIoU_pred"] == pytest.approx(1.75 / 3)
    assert values["mIoU_pred_strict"] == pytest.approx(1.75 / 4)


def test_min_area_leaves_small_true_instances_to_neither_side() -> None:
    prediction, truth = two_views()
    scorer = SceneScorer("id", "background", min_area=3)
    scorer.add_view("a", prediction[0], truth[0])
    values = scorer.result().values
    assert values["gt_instances"] == 1
    assert values["mIoU_pred"] == values["mIoU_gt"] == 0.75  # 2's two pixels off it are a speck


def test_strict_prediction_is_scored_beside_the_filtered_one() -> None:
    prediction, truth = two_views()
    scorer = SceneScorer("scene", "background")
    for v in range(2):
        scorer.add_view(
            str(v), np.where(prediction[v] == 5, 0, prediction[v]), truth[v], None, prediction[v]
        )
    values = scorer.result().values
    assert values["mIoU_pred"] == pytest.approx(1.75 / 3)
    assert values["mIoU_pred_strict"] == pytest.approx(1.75 / 4)


def test_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.2, 400)
    low, high = bootstrap_interval(values, 1000, np.random.default_rng(1))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert bootstrap_interval(values, 1000, np.random.default_rng(1)) == (low, high)


def test_points_plain_and_weighted() -> None:
    truth = np.array([1, 1, 1, 1, 2, 2, 0, 0])
    predicted = np.array([1, 1, 1, 2, 2, 2, 2, 0])
    weights = np.array([0.1, 0.1, 0.1, 0.7, 0.5, 0.5, 0.0, 3.0])
    scores = point_scores(predicted, truth, weights, matching="id", zero_label="background")
    assert scores["mIoU_3d"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert scores["mIoU_3d_weighted"] == pytest.approx((0.3 / 1.0 + 1.0 / 1.7) / 2)
    renamed = np.choose(predicted, [0, 8, 9])
    assert (
        point_scores(renamed, truth, weights, matching="scene", zero_label="background") == scores
    )
    ignore = point_scores(predicted, truth, matching="id", zero_label="ignore")
    assert ignore == {"mIoU_3d": pytest.approx((3 / 4 + 2 / 3) / 2)}


def test_extracted_object() -> None:
    mask = np.array([[1, 1, 0, 0]])
    assert mask_iou(np.array([[0.9, 0.5, 0.6, 0.1]]), mask) == pytest.approx(1 / 3)
    assert mask_iou(np.zeros((2, 2)), np.zeros((2, 2))) == 1.0
    assert mask_iou(np.ones((2, 2)), np.zeros((2, 2))) == 0.0


def test_protocols_name_scores_that_exist() -> None:
    values = score(*two_views(), "scene").values
    for protocol in PROTOCOLS.values():
        if protocol.kind == "label_maps":
            assert set(protocol.primary) <= set(values)
            SceneScorer(protocol.matching or "id", protocol.zero_label or "background")


def test_counts_equal_slow_counts_for_large_and_small_ids() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 6, (20, 30))
    for ids in ([0, 1, 2, 3], [0, 7, 300, 40_000], [5, 6, 2**31, 2**40]):
        prediction = rng.choice(ids, truth.shape)
        overlap = count_overlap(prediction, truth)
        assert overlap.predicted.tolist() == [i for i in ids if i]
        for i, p in enumerate(overlap.predicted):
            assert overlap.predicted_area[i] == (prediction == p).sum()
            for j, t in enumerate(overlap.true):
                assert overlap.intersection[i, j] == ((prediction == p) & (truth == t)).sum()


def test_twelve_views_take_well_under_a_second() -> None:
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 30, (12, 8, 6)), np.ones((1, 32, 32), np.int64))
    start = time.process_time()
    score(truth, truth, "scene")
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("at_once", [1, 700, 1 << 20])
def test_bootstrap_draws_are_those_of_one_sample_after_the_other(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iqgs.evaluation.scores._DRAWN_AT_ONCE", at_once)
    values = np.random.default_rng(0).random(270)
    generator = np.random.default_rng(3)
    means = [values[generator.integers(0, 270, 270)].mean() for _ in range(50)]
    low, high = np.percentile(means, (2.5, 97.5))
    ours = np.random.default_rng(3)
    assert bootstrap_interval(values, 50, ours) == (low, high)
    assert ours.integers(1 << 30) == generator.integers(1 << 30)
