# SPDX-License-Identifier: Apache-2.0
"""Gaussian Grouping: its two terms by hand, the released program's habits, and what may win."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from iqgs.methods.gaussian_grouping import GroupingParams, mean_divergence
from tests.iqgs.toy import MapLens, SplatHolder
from tests.methods.batches import LN2, LN3, make_batch, make_facts, make_method, matrix
from tests.methods.batches import set_classifier as give
from utils.errors import UserError

# Splats with the logits (ln 3, 0) and (0, 0) under the classifier that reads the attribute as it
# is: softmax (3/4, 1/4) and (1/2, 1/2).
SPLATS = matrix([[LN3, 0.0], [0.0, 0.0]])
KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
BACK = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)


def make(background: bool = True, **settings: Any) -> Any:
    facts = make_facts(1, background=background)
    method = make_method("gaussian-grouping", GroupingParams(**settings), facts)
    give(method, torch.eye(2))
    return method


def test_divergence_by_hand() -> None:
    found = mean_divergence(SPLATS[[0, 1, 0]], SPLATS[[1, 0, 0]])
    assert float(found.detach()) == pytest.approx((KL + BACK + 0.0) / 3, rel=1e-5)


def test_the_divergence_moves_both_sides() -> None:
    first, second = SPLATS[:1].clone().requires_grad_(), SPLATS[1:].clone().requires_grad_()
    mean_divergence(first, second).backward()
    assert float(first.grad.abs().sum()) > 0.1  # type: ignore[union-attr]
    assert float(second.grad.abs().sum()) > 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 4 / 5 / 2),  # released: one of five neighbours is the splat itself; over two classes
        ({"kl_counts_self": False}, 1 / 2),
        ({"kl_over_classes": False}, 4 / 5),
        ({"kl_over_classes": False, "kl_counts_self": False}, 1.0),  # the paper's equation
        ({"kl_k": 2}, 1 / 2 / 2),
    ],
)
def test_both_terms_of_a_step(settings: dict[str, Any], scale: float) -> None:
    made = make(**settings).terms(make_batch(SPLATS, [0, 1], pairs=[(0, 1), (1, 0)]))
    assert float(made.terms["identity"].detach()) == pytest.approx(
        (math.log(4 / 3) + LN2) / 2 / LN2
    )
    assert float(made.terms["kl"].detach()) == pytest.approx(scale * (KL + BACK) / 2, rel=1e-5)
    assert make(**settings).weights == {"identity": 1.0, "kl": 2.0}


def test_how_many_neighbours_are_asked_for() -> None:
    assert make().neighbors == (4, 1000, 5)
    assert make(kl_counts_self=False).neighbors == (5, 1000, 5)
    assert make(lambda_kl=0.0).neighbors == (4, 0, 5)


def test_steps_without_pairs_have_no_divergence() -> None:
    assert set(make().terms(make_batch(SPLATS, [0, 1])).terms) == {"identity"}


def test_pixels_without_a_target_teach_nothing() -> None:
    """-1 never; 0 only where it is the background."""
    alone = float(make().terms(make_batch(SPLATS[1:], [1])).terms["identity"].detach())
    for background, labels in ((True, [-1, 1]), (False, [0, 1])):
        made = make(background).terms(make_batch(SPLATS, labels))
        assert float(made.terms["identity"].detach()) == alone == pytest.approx(1.0)


def test_more_classes_make_the_same_loss_smaller() -> None:
    """With 256 classes that hardly score, an even guess between two still costs ln 2 / ln 256."""
    method = make_method("gaussian-grouping", GroupingParams(classes=256), make_facts(1))
    with torch.no_grad():
        method.classifier.weight.zero_()
        method.classifier.bias.fill_(-1e4)
        method.classifier.bias[:2] = 0
    found = method.terms(make_batch(SPLATS, [0, 1])).terms["identity"]
    assert float(found.detach()) == pytest.approx(1 / 8)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(UserError, match="--classes 9 is too small: the masks have 20 ids"):
        make_method("gaussian-grouping", GroupingParams(classes=9), make_facts(20))


def test_only_classes_that_were_taught_win() -> None:
    method = make_method("gaussian-grouping", GroupingParams(), make_facts(2, background=False))
    give(method, torch.zeros(3, 2), torch.tensor([9.0, 0.0, 5.0]))  # 0 and 2 would always win
    view = MapLens(torch.zeros(2, 3, 3))
    assert not method.segment(view).label_map.any()
    made = method.terms(make_batch(SPLATS, [1, 0]))
    method.observe(made.seen)
    assert method.segment(view).label_map.unique().tolist() == [1]
    splats = method.label_splats(SplatHolder(torch.zeros(4, 2)))
    assert splats.labels.tolist() == [1] * 4 and splats.ids == "global"
    assert splats.confidence.tolist() == [1.0] * 4


def test_a_splat_is_read_by_its_own_attribute() -> None:
    method = make()
    method.observe(torch.tensor([0, 1]))
    splats = method.label_splats(SplatHolder(matrix([[0.0, LN3], [LN3, 0.0]])))
    assert splats.labels.tolist() == [1, 0]
    torch.testing.assert_close(splats.confidence, torch.tensor([0.75, 0.75]))


def test_tracks_are_clusters() -> None:
    facts = make_facts(1, tracks=True)
    assert make_method("gaussian-grouping", GroupingParams(), facts).ids == "clusters"
