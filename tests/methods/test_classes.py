# SPDX-License-Identifier: Apache-2.0
"""Classes by softmax: the cross-entropy by hand, who may win, and the panoptic filter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from iqgs.methods.classes import count_classes, decide, identity_loss, segment_by_softmax, taught
from tests.iqgs.toy import MapLens
from tests.methods.batches import LN2, LN3, make_facts, matrix
from utils.errors import UserError


def test_cross_entropy_is_counted_in_even_guesses() -> None:
    """Softmax of (ln 3, 0) is (3/4, 1/4), of (0, 0) is (1/2, 1/2)."""
    logits = matrix([[LN3, 0.0], [0.0, 0.0]])
    found = identity_loss(logits, torch.tensor([0, 1]))
    assert float(found) == pytest.approx((math.log(4 / 3) + LN2) / 2 / LN2)
    assert float(identity_loss(torch.zeros(5, 7), torch.arange(5))) == pytest.approx(1.0)


def test_no_pixels_are_no_loss() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    found = identity_loss(logits, torch.zeros(0, dtype=torch.int64))
    found.backward()
    assert float(found.detach()) == 0.0


def test_what_teaches_depends_on_what_zero_means() -> None:
    labels = torch.tensor([-1, 0, 2])
    assert taught(labels, zero_is_background=True).tolist() == [False, True, True]
    assert taught(labels, zero_is_background=False).tolist() == [False, False, True]


def test_classes_are_counted_or_refused() -> None:
    assert count_classes(0, make_facts(4)) == 5
    assert count_classes(256, make_facts(4)) == 256
    with pytest.raises(UserError, match=r"--classes 4 .*4 ids.* --classes 5"):
        count_classes(4, make_facts(4))


def of(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Arguments of `decide` for logits [M, n] of classes 0..M-1, all columns solid."""
    return torch.arange(len(logits)), torch.ones(logits.shape[1], dtype=torch.bool)


def test_the_most_probable_class_wins_with_its_probability() -> None:
    logits = matrix([[0.0, LN3], [LN2, 0.0], [0.0, 0.0]])
    numbers, solid = of(logits)
    labels, sure = decide(numbers, lambda part: logits[:, part], solid, panoptic=False)
    assert labels.tolist() == [1, 0]
    torch.testing.assert_close(sure, torch.tensor([0.5, 0.6]))


def test_columns_of_empty_space_are_nothing() -> None:
    logits = matrix([[0.0, 0.0], [9.0, 9.0]])
    numbers, _ = of(logits)
    solid = torch.tensor([True, False])
    labels, sure = decide(numbers, lambda part: logits[:, part], solid, panoptic=True)
    assert labels.tolist()[1] == 0 and float(sure[1]) == 0


def test_a_sliver_is_given_to_the_next_best() -> None:
    """Class 2 wins 3 pixels, which is less than 4; class 1 is the next best there."""
    logits = torch.zeros(3, 20)
    logits[1, :10] = 5.0
    logits[2, 10:13] = 5.0
    logits[1, 10:13] = 1.0
    logits[0, 13:] = 5.0
    numbers, solid = of(logits)
    plain, _ = decide(numbers, lambda part: logits[:, part], solid, panoptic=False)
    kept, _ = decide(numbers, lambda part: logits[:, part], solid, panoptic=True)
    assert plain.tolist() == [1] * 10 + [2] * 3 + [0] * 7
    assert kept.tolist() == [1] * 13 + [0] * 7


def test_nothing_that_is_sure_leaves_nothing() -> None:
    logits = torch.zeros(2, 10)
    numbers, solid = torch.tensor([3, 4]), torch.ones(10, dtype=torch.bool)
    labels, _ = decide(numbers, lambda part: logits[:, part], solid, panoptic=True)
    assert not labels.any()
    none, _ = decide(numbers[:0], lambda part: logits[:0, part], solid, panoptic=False)
    assert none.tolist() == [0] * 10


def test_a_view_is_decided_pixel_by_pixel_and_scored() -> None:
    lens = MapLens(torch.zeros(1, 2, 3), alpha=torch.tensor([[[1.0, 1.0, 0.4], [1.0, 1.0, 1.0]]]))
    logits = matrix([[0.0] * 6, [LN3] * 6])
    found = segment_by_softmax(
        lens,  # type: ignore[arg-type]
        torch.tensor([0, 7]),
        lambda part: logits[:, part],
        True,
        "queries",
    )
    assert found.label_map.tolist() == [[7, 7, 0], [7, 7, 7]]
    assert found.scores == {7: pytest.approx(0.75)}
    assert found.ids == "queries"
