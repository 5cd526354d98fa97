# SPDX-License-Identifier: Apache-2.0
"""Decisions in 3D: the likelihood and the smoothness by hand, and how the blended shares decide."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from iqgs.methods.decision import LEAST_SHARE, DecisionParams, winners_of
from iqgs.methods.winners import find_winners
from tests.methods.batches import LN2, LN3, make_batch, make_facts, make_method, matrix
from tests.methods.batches import set_classifier as give

# Softmax (3/4, 1/4) and (1/2, 1/2) under the classifier that reads attributes as they are.
SPLATS = matrix([[LN3, 0.0], [0.0, 0.0]])
BLEND = matrix([[0.5, 0.3], [0.2, 0.4]])  # weights [P, N] of both splats in two pixels
LEAST = LEAST_SHARE


class SplatLens:
    """A lens that blends splats with weights [P, N] into a row of pixels."""

    def __init__(self, instance: Tensor, blend: Tensor) -> None:
        self.gaussians = self
        self.instance = instance
        self.blend = blend
        self.alpha = blend.sum(dim=1).view(1, 1, -1)

    def __len__(self) -> int:
        return len(self.instance)

    def splat(self, values: Tensor) -> Tensor:
        return (self.blend @ values).T.unsqueeze(1)


def make(background: bool = True, ids: int = 1, **settings: Any) -> Any:
    facts = make_facts(ids, background=background)
    method = make_method("decision", DecisionParams(**settings), facts)
    if ids == 1:
        give(method, torch.eye(2))
    return method


def test_likelihood_is_of_blended_decisions() -> None:
    """Pixel 0 is id 1: 0.5 / 4 + 0.3 / 2. Pixel 1 is background: 0.2 * 3/4 + 0.4 / 2 and the 0.4
    that nothing covers.
    """
    made = make().terms(make_batch(SPLATS, [1, 0], BLEND))
    first, second = 0.5 * 0.25 + 0.3 * 0.5, 0.2 * 0.75 + 0.4 * 0.5 + 0.4
    wanted = -(math.log(first + LEAST) + math.log(second + LEAST)) / 2 / LN2
    assert float(made.terms["decision"].detach()) == pytest.approx(wanted, rel=1e-5)


def test_it_is_not_the_decision_of_blended_features() -> None:
    """Two splats that are sure of 0 and of 1 show both; their mean feature would be sure of 2."""
    method = make(ids=2)
    give(method, matrix([[9.0, 0.0], [0.0, 9.0], [7.0, 7.0]]))
    sides = matrix([[2.0, 0.0], [0.0, 2.0]])
    method.observe(torch.tensor([0, 1, 2]))
    lens = SplatLens(sides, matrix([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]]))
    assert int((method.classifier(matrix([[1.0, 1.0]]))).argmax()) == 2
    assert method.segment(lens, panoptic=False).label_map.tolist() == [[0, 1, 0]]


def test_ignored_zeros_neither_teach_nor_cover() -> None:
    made = make(background=False).terms(make_batch(SPLATS, [1, 0], BLEND))
    wanted = -math.log(0.5 * 0.25 + 0.3 * 0.5 + LEAST) / LN2
    assert float(made.terms["decision"].detach()) == pytest.approx(wanted, rel=1e-5)
    nothing = make(background=False).terms(make_batch(SPLATS, [0, -1], BLEND))
    assert float(nothing.terms["decision"].detach()) == 0.0


def test_a_mask_where_nothing_is_costs_a_bounded_amount() -> None:
    made = make().terms(make_batch(SPLATS, [1], torch.zeros(1, 2)))
    assert float(made.terms["decision"].detach()) == pytest.approx(-math.log(LEAST) / LN2, rel=1e-5)


def test_smoothness_is_of_probabilities() -> None:
    """(3/4 - 1/2)^2 + (1/4 - 1/2)^2 = 1/8 between the two splats, 0 between equal ones."""
    made = make().terms(make_batch(SPLATS, [1, 0], pairs=[(0, 1), (0, 0)]))
    assert float(made.terms["reg3d"].detach()) == pytest.approx(1 / 16, rel=1e-5)
    assert make(lambda_reg=0.0).neighbors == (5, 0, 1)


def test_every_parameter_learns_what_finite_differences_say() -> None:
    torch.manual_seed(0)
    method = make(ids=2).double()
    instance = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    blend = torch.rand(4, 3, dtype=torch.float64) / 3

    def loss(values: Tensor) -> Tensor:
        made = method.terms(make_batch(values, [0, 1, 2, 1], blend, pairs=[(0, 1), (1, 2)]))
        return made.terms["decision"] + made.terms["reg3d"]

    assert torch.autograd.gradcheck(loss, (instance,))


def test_a_view_shows_the_largest_share_and_its_probability() -> None:
    method = make()
    method.observe(torch.tensor([0, 1]))
    splats = matrix([[0.0, LN3], [LN3, 0.0]])  # 3/4 for id 1; 3/4 for id 0
    lens = SplatLens(splats, matrix([[0.9, 0.1], [0.1, 0.9], [0.8, 0.0], [0.4, 0.0]]))
    found = method.segment(lens, panoptic=False)
    # pixel 2: 0.6 of id 1 against 0.2 of id 0 and 0.2 of nothing; pixel 3 is mostly nothing
    assert found.label_map.tolist() == [[1, 0, 1, 0]]
    assert found.scores[1] == pytest.approx((0.9 * 0.75 + 0.1 * 0.25 + 0.6) / 2)
    assert not method.segment(lens, panoptic=True).label_map.any()  # two pixels are a sliver


def test_classes_that_nobody_taught_have_no_share() -> None:
    method = make(ids=2)
    give(method, torch.zeros(3, 2), torch.tensor([0.0, 0.0, 50.0]))
    lens = SplatLens(SPLATS, torch.full((6, 2), 0.5))
    assert not method.segment(lens).label_map.any()  # nothing is taught at all
    method.observe(torch.tensor([1]))
    found = method.segment(lens)
    assert found.label_map.tolist() == [[1] * 6] and found.scores == {1: pytest.approx(1.0)}


def test_winners_by_classes_are_the_winners_by_pixels() -> None:
    shares = torch.rand(11, 50, generator=torch.Generator().manual_seed(0))
    whole = find_winners(lambda part: shares[:, part], 11, 50, 0.5)
    parts = winners_of(shares.split(4))
    for name in ("row", "value", "area", "sure", "own"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
