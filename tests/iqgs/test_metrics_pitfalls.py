# SPDX-License-Identifier: Apache-2.0
"""Mistakes seen in other scorers; each of them changes a published number without a word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iqgs.evaluation.scorer import SceneScorer, check_held_out
from utils.errors import DataError


def squares(*ids: int) -> np.ndarray:
    """A row of 8x8 squares with these ids."""
    return np.kron(np.array([ids]), np.ones((8, 8), np.int64))


def test_a_missing_prediction_counts_zero_everywhere() -> None:
    truth = squares(1, 2)
    complete, incomplete = SceneScorer("id", "background"), SceneScorer("id", "background")
    for scorer in (complete, incomplete):
        scorer.add_view("a.png", truth, truth)
    incomplete.add_missing("b.png", truth)
    all_there, half = complete.result().values, incomplete.result().values
    for key in ("mIoU_pred", "mIoU_pred_strict", "mIoU_gt", "mBIoU", "PQ", "AP50"):
        assert all_there[key] == 1.0
        assert float(half[key]) == pytest.approx(0.5, abs=0.01), key  # AP has 101 recall levels
    assert half["PQ_scene"] == half["recall"] == 0.0  # each tube reaches .5, not more
    assert (half["missing"], half["views"], half["gt_instances"]) == (1, 2, 4)
    assert incomplete.result().per_view["b.png"]["mIoU_pred"] == 0.0


def test_a_missing_prediction_counts_zero_when_unlabelled_pixels_are_ignored() -> None:
    scorer = SceneScorer("scene", "ignore")
    scorer.add_missing("only.png", squares(0, 1))
    values = scorer.result().values
    for key in ("mIoU_pred", "mIoU_gt", "mBIoU", "PQ", "PQ_scene", "AP", "coverage"):
        assert values[key] == 0.0, key


@pytest.mark.parametrize("zero_label", ["background", "ignore"])
def test_pixels_without_a_target_are_scored_on_neither_side(zero_label: str) -> None:
    """The same scores as if these pixels had been cut out of the picture."""
    truth, prediction = squares(1, 2, 0, 3), squares(1, 5, 4, 0)
    prediction[:, 2] = 1
    hidden, cut = SceneScorer("view", zero_label), SceneScorer("view", zero_label)
    cut.add_view("a.png", prediction[2:], truth[2:])
    truth[:2] = -1  # whatever the prediction says there
    hidden.add_view("a.png", prediction, truth)
    whole, part = hidden.result(), cut.result()
    # Boundaries move: the cut is a picture's edge in one case and an outline in the other.
    for key in ("mIoU_pred", "mIoU_gt", "PQ", "SQ", "RQ", "PQ_scene", "coverage", "gt_instances"):
        assert whole.values[key] == part.values[key], key
    assert {row.id: row.area for row in whole.objects} == {row.id: row.area for row in part.objects}


def test_predicting_nothing_is_worth_nothing() -> None:
    scorer = SceneScorer("view", "background")
    scorer.add_view("only.png", squares(0, 0), squares(0, 1))
    values = scorer.result().values
    assert values["mIoU_pred"] == values["mIoU_gt"] == values["PQ"] == values["AP"] == 0.0


def test_ids_beyond_eight_bits_stay_themselves() -> None:
    truth = squares(1, 256, 257, 40_000)
    scorer = SceneScorer("id", "background")
    scorer.add_view("wide.png", truth, truth.astype(np.int32))
    assert scorer.result().values["mIoU_gt"] == 1.0
    assert [row.id for row in scorer.result().objects] == [1, 256, 257, 40_000]
    squeezed = SceneScorer("id", "background")
    squeezed.add_view("wide.png", truth.astype(np.uint8), truth)
    assert squeezed.result().values["mIoU_gt"] < 0.5


def test_uint16_maps_do_not_overflow_in_the_counts() -> None:
    labels = squares(*range(1, 300)).astype(np.uint16)
    scorer = SceneScorer("id", "background")
    scorer.add_view("many.png", labels, labels)
    assert scorer.result().values["PQ"] == 1.0


def test_sizes_that_differ_are_refused_instead_of_resized() -> None:
    scorer = SceneScorer("id", "background")
    with pytest.raises(ValueError, match="nearest"):
        scorer.add_view("a.png", squares(1, 2), squares(1, 2, 3))


@pytest.mark.parametrize(
    "prediction",
    [squares(1, 2).astype(np.float32), np.zeros((8, 16, 3), np.uint8), -squares(1, 2)],
    ids=["interpolated or probability", "colours read back from a picture", "negative"],
)
def test_what_is_not_a_label_map_is_refused(prediction: np.ndarray) -> None:
    scorer = SceneScorer("id", "background")
    with pytest.raises(ValueError, match="prediction"):
        scorer.add_view("a.png", prediction, squares(1, 2))


def test_view_without_objects_is_not_divided_by_zero() -> None:
    scorer = SceneScorer("id", "background")
    scorer.add_view("empty.png", squares(0, 0), squares(0, 0))
    alone = scorer.result()
    assert math.isnan(float(alone.values["mBIoU"])) and math.isnan(float(alone.values["PQ"]))
    scorer.add_view("full.png", squares(1, 0), squares(1, 0))
    both = scorer.result()
    for key in ("mIoU_pred", "mIoU_gt", "mBIoU", "PQ", "PQ_scene", "AP"):
        assert both.values[key] == 1.0, key


def test_a_prediction_in_an_empty_view_counts() -> None:
    scorer = SceneScorer("id", "background")
    scorer.add_view("empty.png", squares(0, 4), squares(0, 0))
    scorer.add_view("full.png", squares(1, 0), squares(1, 0))
    values = scorer.result().values
    assert (values["mIoU_pred"], values["mIoU_gt"], values["PQ"]) == (0.5, 1.0, 0.5)


def test_mean_over_masks_is_not_the_mean_over_objects() -> None:
    scorer = SceneScorer("id", "background")
    for number in range(3):  # object 1 always right, object 2 in one view and wrong
        truth = squares(1, 2) if number == 0 else squares(1, 0)
        scorer.add_view(f"{number}.png", np.where(truth == 1, 1, 0), truth)
    values = scorer.result().values
    assert values["mIoU_gt"] == pytest.approx(3 / 4)
    assert values["mIoU_objects"] == pytest.approx(1 / 2)


def test_a_view_counts_once() -> None:
    scorer = SceneScorer("id", "background")
    scorer.add_view("a.png", squares(1), squares(1))
    for again in (
        lambda: scorer.add_view("a.png", squares(1), squares(1)),
        lambda: scorer.add_missing("a.png", squares(1)),
    ):
        with pytest.raises(ValueError, match="twice"):
            again()


def test_settings_are_checked_and_no_view_is_no_score() -> None:
    with pytest.raises(ValueError, match="matching"):
        SceneScorer("hungarian", "background")
    with pytest.raises(ValueError, match="zero_label"):
        SceneScorer("id", "void")
    with pytest.raises(ValueError, match="no view"):
        SceneScorer("id", "background").result()


def test_views_that_were_trained_on_are_not_test_views() -> None:
    check_held_out(["a/0.png", "b.png"], ["b/0.png", "a/1.png"])
    with pytest.raises(DataError, match=r"1 of the views .* such as b\.png"):
        check_held_out(["a.png", "b.png"], ["b.png", "c.png"])
