# SPDX-License-Identifier: Apache-2.0
"""The order of the views: every view once per round, and the same after a resume."""

from __future__ import annotations

import io

import pytest
import torch

from scene.sampler import ViewSampler


def test_every_round_shows_every_view_once() -> None:
    sampler = ViewSampler(7, seed=1)
    rounds = [[sampler.draw() for _ in range(7)] for _ in range(20)]
    assert all(sorted(order) == list(range(7)) for order in rounds)
    assert len({tuple(order) for order in rounds}) > 15


def test_seeds_decide() -> None:
    orders = [
        [sampler.draw() for _ in range(30)]
        for sampler in (ViewSampler(10, 5), ViewSampler(10, 5), ViewSampler(10, 6))
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("drawn", [0, 3, 5, 12])
def test_resumes_from_a_checkpoint_that_holds_no_objects(drawn: int) -> None:
    sampler = ViewSampler(5, seed=2)
    for _ in range(drawn):
        sampler.draw()
    stream = io.BytesIO()
    torch.save(sampler.state_dict(), stream)
    expected = [sampler.draw() for _ in range(17)]
    stream.seek(0)
    resumed = ViewSampler(5, seed=99)
    resumed.load_state_dict(torch.load(stream, weights_only=True))
    assert [resumed.draw() for _ in range(17)] == expected


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ViewSampler(0, 0)
    with pytest.raises(ValueError, match="3 views"):
        ViewSampler(4, 0).load_state_dict(ViewSampler(3, 0).state_dict())
