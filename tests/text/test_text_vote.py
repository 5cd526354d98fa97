# SPDX-License-Identifier: Apache-2.0
"""The vote of a text's masks, against counting pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from iqgs.objects.text_vote import TextMatch, TextVote, chosen_objects, names_of


def test_a_share_is_counted_over_all_views_that_have_a_mask() -> None:
    rng = np.random.default_rng(0)
    views = [rng.choice([0, 3, 7, 300], (9, 8)) for _ in range(4)]
    masks = [rng.random((9, 8)) < 0.4 for _ in views]
    masks[1][:] = False  # the text is not there: that counts against it
    vote = TextVote()
    for labels, mask in zip(views[:3], masks[:3], strict=True):  # the last has no mask
        vote.add("cup", labels, mask)
    found = vote.matches("cup")
    for number in (3, 7, 300):
        inside = sum(
            1
            for labels, mask in zip(views[:3], masks[:3], strict=True)
            for label, hit in zip(labels.ravel(), mask.ravel(), strict=True)
            if label == number and hit
        )
        seen = sum(int((labels == number).sum()) for labels in views[:3])
        match = next(m for m in found if m.number == number)
        assert match.score == pytest.approx(inside / seen) and match.views == 3
    assert {match.number for match in found} == {3, 7, 300}
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    assert vote.matches("never asked") == ()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        TextVote().add("cup", np.zeros((3, 4), int), np.zeros((4, 3), bool))


def test_objects_are_chosen_and_named() -> None:
    cup = (TextMatch(5, 0.9, 3), TextMatch(2, 0.6, 3), TextMatch(8, 0.4, 1))
    mug = (TextMatch(5, 0.9, 3), TextMatch(2, 0.7, 3))
    assert chosen_objects(cup, 0.5) == (2, 5)
    assert chosen_objects(cup, 0.95) == ()
    # 5 fits both equally: the text that was asked first; 8 reaches the threshold for none.
    assert names_of({"cup": cup, "mug": mug}, 0.5) == {2: "mug", 5: "cup"}
