# SPDX-License-Identifier: Apache-2.0
"""Unified-Lift: contrast, codes, concentration and the assignment by hand; what may win."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from iqgs.methods.unified_lift import UnifiedLiftParams, contrastive_loss
from tests.iqgs.toy import MapLens, SplatHolder
from tests.methods.batches import make_batch, make_facts, make_method, matrix
from utils.errors import UserError

E = math.e
# Two masks: directions (1, 0) and (0, 1), features of any length.
FEATURES = matrix([[2.0, 0.0], [5.0, 0.0], [0.0, 3.0]])


def make(codes: Tensor, background: bool = True, **settings: Any) -> Any:
    params = UnifiedLiftParams(**{"codes": len(codes), "temperature": 1.0, **settings})
    method = make_method("unified-lift", params, make_facts(9, background=background))
    with torch.no_grad():
        method.codebook.copy_(codes)
    return method


def test_contrast_by_hand() -> None:
    """Means are the two directions, so a pixel is like its own by e / (e + 1)."""
    loss, sure = contrastive_loss(FEATURES, torch.tensor([0, 0, 1]), 1.0)
    assert float(loss) == pytest.approx(-math.log(E / (E + 1)), rel=1e-5)
    torch.testing.assert_close(sure, torch.full((3,), E / (E + 1)))
    sharp, _ = contrastive_loss(FEATURES, torch.tensor([0, 0, 1]), 0.5)
    assert float(sharp) == pytest.approx(-math.log(E**2 / (E**2 + 1)), rel=1e-5)


def test_a_pixel_unlike_its_mask_is_unsure() -> None:
    """Mask 0 has directions (1, 0), (1, 0), (0, 1): mean (2/3, 1/3). Mask 1 is (0, 1)."""
    features = torch.cat([FEATURES, matrix([[0.0, 1.0]])])
    _, sure = contrastive_loss(features, torch.tensor([0, 0, 0, 1]), 1.0)
    wanted = math.exp(1 / 3) / (math.exp(1 / 3) + E)
    assert float(sure[2]) == pytest.approx(wanted, rel=1e-5)
    assert float(sure[2]) < 0.5 < float(sure[0])


def test_contrast_turns_features_and_does_not_lengthen_them() -> None:
    """Against finite differences of the loss of directions, and at a right angle to a feature."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    own = torch.tensor([0, 1, 1, 0, 2])
    contrastive_loss(values, own, 0.7)[0].backward()

    def of_directions(features: Tensor) -> Tensor:
        direction = F.normalize(features, dim=1)
        means = torch.stack([direction[own == t].mean(0) for t in range(3)])
        return F.cross_entropy(direction @ means.T / 0.7, own)

    assert torch.autograd.gradcheck(of_directions, (values,))
    again = values.detach().clone().requires_grad_()
    of_directions(again).backward()
    tangent = F.normalize(values.detach(), dim=1)
    gradient = values.grad
    assert gradient is not None and again.grad is not None
    across = gradient - (gradient * tangent).sum(1, keepdim=True) * tangent
    torch.testing.assert_close(across, again.grad)


def test_masks_are_assigned_by_their_pixels() -> None:
    """Both masks want code 1. Mask 4 is larger and gets it; by means mask 7 wants it more."""
    probabilities = matrix([[0.0, 0.6, 0.4]] * 6 + [[0.0, 0.9, 0.1]])
    own, present = torch.tensor([0] * 6 + [1]), torch.tensor([4, 7])
    method = make(torch.zeros(3, 2))
    assert method.assign(probabilities, own, present).tolist() == [1, 2]
    alike = make(torch.zeros(3, 2), area_aware=False)
    assert alike.assign(probabilities, own, present).tolist() == [2, 1]


def test_zero_is_pinned_to_code_zero() -> None:
    method = make(torch.zeros(3, 2))
    probabilities = matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    found = method.assign(probabilities, torch.tensor([0, 1]), torch.tensor([0, 5]))
    assert found.tolist()[0] == 0 and found.tolist()[1] > 0


def test_more_masks_than_codes_are_refused() -> None:
    method = make(torch.zeros(3, 2))
    probabilities, own = torch.ones(3, 3), torch.tensor([0, 1, 2])
    with pytest.raises(UserError, match="--codes 3 is too small: a view shows 3 masks"):
        method.assign(probabilities, own, torch.tensor([2, 4, 6]))
    assert len(method.assign(probabilities, own, torch.tensor([0, 4, 6]))) == 3


CODES = matrix([[0.0, 0.0], [0.6, 0.0], [0.0, 0.5]])


def test_all_terms_of_a_step_by_hand() -> None:
    """Masks 4 and 7 are codes 1 and 2. Logits of the three pixels: (0, 1.2, 0), (0, 3, 0) and
    (0, 0, 1.5); distances of the codes from the directions: 0.4, 0.4 and 0.5.
    """
    made = make(CODES).terms(make_batch(FEATURES, [4, 4, 7]))
    found = {name: float(term.detach()) for name, term in made.terms.items()}
    codes = [math.log(2 + math.exp(score)) - score for score in (0.6 * 2.0, 0.6 * 5.0, 0.5 * 3.0)]
    assert found["contrast"] == pytest.approx(-math.log(E / (E + 1)), rel=1e-5)
    assert found["codes"] == pytest.approx(sum(codes) / 3, rel=1e-5)
    assert found["concentration"] == pytest.approx((0.4 + 0.4 + 0.5) / 3, rel=1e-5)
    assert found["norm"] == pytest.approx((1 + 16 + 4) / 3)
    assert made.seen.tolist() == [1, 2]


def test_unsure_pixels_are_left_out_of_the_distance() -> None:
    features = torch.cat([FEATURES, matrix([[0.0, 1.0]])])
    batch = make_batch(features, [4, 4, 4, 7])  # the third pixel looks like mask 7
    some = make(CODES).terms(batch).terms["concentration"]
    whole = make(CODES, confidence=0.0).terms(batch).terms["concentration"]
    assert float(some.detach()) == pytest.approx((0.4 + 0.4 + 0.5) / 3, rel=1e-5)
    assert float(whole.detach()) == pytest.approx((0.4 + 0.4 + 1.6 + 0.5) / 4, rel=1e-5)


@pytest.mark.parametrize("moves", [False, True])
def test_codes_follow_features_and_not_the_other_way(moves: bool) -> None:
    method = make(CODES, concentration_moves_splats=moves)
    features = matrix([[2.0, 0.3], [5.0, 0.1], [0.4, 3.0]]).requires_grad_()
    made = method.terms(make_batch(features, [4, 4, 7])).terms
    (made["codes"] + made["concentration"]).backward()
    assert float(method.codebook.grad.abs().sum()) > 0.1
    touched = features.grad is not None and float(features.grad.abs().sum()) > 0
    assert touched == moves


def test_zeros_are_ignored_where_they_mean_nothing() -> None:
    made = make(CODES, background=False).terms(make_batch(FEATURES, [0, -1, 0]))
    assert set(made.terms) == {"norm"} and len(made.seen) == 0
    made = make(CODES).terms(make_batch(FEATURES, [0, -1, 0]))
    assert made.seen.tolist() == [0]


def test_the_codebook_is_as_large_as_views_need() -> None:
    assert len(make_method("unified-lift", UnifiedLiftParams(), make_facts(9)).codebook) == 19
    with pytest.raises(UserError, match="codes"):
        UnifiedLiftParams(codes=1)


def test_only_codes_that_owned_a_mask_win() -> None:
    method = make(matrix([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [0.5, 0.0]]))
    lens = MapLens(torch.tensor([4.0, 0.0]).view(2, 1, 1).expand(2, 2, 3))
    assert not method.segment(lens).label_map.any()
    method.observe(torch.tensor([1, 3]))
    found = method.segment(lens)
    assert found.label_map.unique().tolist() == [1] and found.ids == "queries"
    assert found.scores[1] == pytest.approx(1 / (1 + math.exp(-2.0)))
    splats = method.label_splats(SplatHolder(matrix([[4.0, 0.0], [-4.0, 0.0]])))
    assert splats.labels.tolist() == [1, 3]
