# SPDX-License-Identifier: Apache-2.0
"""IoU and accuracy of one object against torchmetrics and by hand, and how it is chosen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryAccuracy, BinaryJaccardIndex

from iqgs.evaluation.single_object import (
    Chosen,
    ObjectView,
    covering_instance,
    object_values,
    object_view,
)


@pytest.mark.parametrize("seed", range(5))
def test_iou_and_accuracy_equal_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = rng.random((20, 30)) < 0.4, rng.random((20, 30)) < 0.5
    ours = object_view("a", found, truth.astype(np.int32))
    pair = torch.from_numpy(found).int(), torch.from_numpy(truth).int()
    assert ours.iou == pytest.approx(float(BinaryJaccardIndex()(*pair)))
    assert ours.accuracy == pytest.approx(float(BinaryAccuracy()(*pair)))


def test_by_hand_with_pixels_that_nobody_sees() -> None:
    truth = np.array([[1, 1, 0, 0, -1]])
    found = np.array([[True, False, True, False, True]])
    assert object_view("a", found, truth) == ObjectView("a", 1 / 3, 0.5)
    nothing = np.zeros((1, 5), bool)
    assert object_view("a", nothing, truth) == ObjectView("a", 0.0, 0.5)
    assert object_view("a", nothing, np.zeros((1, 5))) == ObjectView("a", 1.0, 1.0)
    with pytest.raises(ValueError, match="size"):
        object_view("a", nothing, np.zeros((2, 5)))


def test_the_instance_that_covers_most_of_the_reference_is_chosen() -> None:
    labels = np.array([[0, 0, 0, 4, 4, 9, 9, 9]])
    reference = np.array([[1, 1, 1, 1, 1, 1, 0, 0]], bool)  # half of it on nothing
    negative = np.array([[0, 0, 0, 1, 0, 0, 1, 0]], bool)
    chosen = covering_instance(labels, reference, negative)
    assert chosen == Chosen(4, pytest.approx(2 / 6), 0.5)
    assert math.isnan(covering_instance(labels, reference).wrong)
    nothing = covering_instance(labels, np.array([[1, 1, 1, 0, 0, 0, 0, 0]], bool))
    assert nothing.id == 0 and nothing.covered == 0


def test_of_two_that_cover_as_much_the_negative_scribble_decides() -> None:
    labels, reference = np.array([[4, 9, 4, 9]]), np.array([[1, 1, 0, 0]], bool)
    on_four = np.array([[0, 0, 1, 0]], bool)
    assert covering_instance(labels, reference).id == 4
    assert covering_instance(labels, reference, on_four).id == 9


def test_means_over_views_with_and_without_the_reference() -> None:
    views = [ObjectView("a", 1.0, 1.0), ObjectView("b", 0.5, 0.8), ObjectView("c", 0.0, 0.6)]
    values = object_values(views, "a")
    assert values == {
        "IoU": 0.5,
        "accuracy": pytest.approx(0.8),
        "IoU_others": 0.25,
        "views": 3,
    }
    assert math.isnan(object_values(views[:1], "a")["IoU_others"])
