# SPDX-License-Identifier: Apache-2.0
"""Masks move opacities once the method can doubt them, and while it hardly does."""

from __future__ import annotations

import torch

from iqgs.engine.stages.trust import DECIDE_EVERY, MOST_DOUBT, SETTLING, Trust

STEPS = 10 * DECIDE_EVERY
BEGIN = round(SETTLING * STEPS)


def decisions(trust: Trust, doubts: list[float | None], start: int = 0) -> list[bool]:
    """Whether each step is made in trust; `doubts`: what each leaves."""
    made = []
    for iteration, doubt in enumerate(doubts, start=start):
        made.append(trust.trusting)
        trust.update(iteration, [None if doubt is None else torch.tensor(doubt)])
    return made


def test_masks_without_faults_are_trusted_once_training_has_settled() -> None:
    early = [0.5] * (BEGIN - DECIDE_EVERY)  # a method that knows nothing yet doubts everything
    made = decisions(Trust(0, STEPS, noisy=False), [*early, *[0.001] * (STEPS - len(early))])
    assert made == [False] * BEGIN + [True] * (STEPS - BEGIN)


def test_a_method_without_doubts_trusts_but_not_the_edges_of_repaired_masks() -> None:
    nothing: list[float | None] = [None] * STEPS
    for noisy in (False, True):
        trust = Trust(0, STEPS, noisy)
        assert not trust.at_edges
        assert decisions(trust, nothing) == [False] * BEGIN + [True] * (STEPS - BEGIN)
        assert trust.at_edges is not noisy


def test_trust_ends_with_doubt_and_comes_back() -> None:
    doubts: list[float | None] = [0.0] * STEPS
    doubts[BEGIN : BEGIN + DECIDE_EVERY] = [2 * MOST_DOUBT] * DECIDE_EVERY
    made = decisions(Trust(0, STEPS, False), doubts)
    assert made[BEGIN : BEGIN + DECIDE_EVERY] == [True] * DECIDE_EVERY
    assert made[BEGIN + DECIDE_EVERY :][:DECIDE_EVERY] == [False] * DECIDE_EVERY
    assert all(made[BEGIN + 2 * DECIDE_EVERY :])


def test_it_goes_on_where_it_stopped() -> None:
    doubts: list[float | None] = [0.3 * MOST_DOUBT * (i % 7) for i in range(STEPS)]
    whole, first, second = (Trust(0, STEPS, False) for _ in range(3))
    cut = BEGIN + DECIDE_EVERY // 2
    wanted = decisions(whole, doubts)
    begun = decisions(first, doubts[:cut])
    second.load_state_dict(first.state_dict())
    assert begun + decisions(second, doubts[cut:], cut) == wanted
