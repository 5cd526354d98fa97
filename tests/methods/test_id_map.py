# SPDX-License-Identifier: Apache-2.0
"""The id map: terms by hand with given queries, what it refuses, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iqgs.methods.id_map import IdMapParams
from tests.iqgs.toy import MapLens, SplatHolder
from tests.methods.batches import LN2, LN3, make_batch, make_facts, make_method, matrix
from utils.errors import UserError

SPLATS = matrix([[LN3, 0.0], [0.0, 0.0]])  # softmax (3/4, 1/4) and (1/2, 1/2) of two queries
BLEND = matrix([[0.5, 0.5], [0.0, 1.0]])


class GivenQueries(nn.Module):
    """A decoder that always answers with the same queries."""

    def __init__(self, queries: Tensor) -> None:
        super().__init__()
        self.queries = nn.Parameter(queries)

    def forward(self, context: Tensor) -> Tensor:
        return self.queries


def make(background: bool = True, ids: int = 1, **settings: Any) -> Any:
    """A branch whose features are the attributes, and whose logits are its features."""
    settings = {"num_queries": 0, "feature_dim": ids + 1, **settings}
    facts = make_facts(ids, dim=ids + 1, background=background)
    method = make_method("id-map", IdMapParams(**settings), facts)
    with torch.no_grad():
        method.projection.weight.copy_(torch.eye(ids + 1))
    method.decoder = GivenQueries(torch.eye(ids + 1))
    return method


def test_cross_entropy_by_hand() -> None:
    made = make().terms(make_batch(SPLATS, [0, 1]))
    assert float(made.terms["identity"].detach()) == pytest.approx(
        (math.log(4 / 3) + LN2) / 2 / LN2
    )
    assert made.seen.present.tolist() == [0, 1]


def test_smoothness_is_of_present_probabilities_per_query() -> None:
    """Both ids present: (1/4)^2 twice over 2 queries; one id present: (1/4)^2 over 1."""
    both = make().terms(make_batch(SPLATS, [0, 1], pairs=[(0, 1)]))
    one = make().terms(make_batch(SPLATS, [1, 1], pairs=[(0, 1)]))
    assert float(both.terms["reg3d"].detach()) == pytest.approx(1 / 16, rel=1e-5)
    assert float(one.terms["reg3d"].detach()) == pytest.approx(1 / 16, rel=1e-5)
    assert "reg3d" not in make().terms(make_batch(SPLATS, [0, 1])).terms


def test_consistency_compares_blended_decisions_with_decided_blends() -> None:
    """Pixel 0 blends both splats: decisions (5/8, 3/8), the decision of their mean
    (sqrt 3, 1) / (1 + sqrt 3). Pixel 1 shows splat 1 alone, and both sides agree.
    """
    made = make().terms(make_batch(SPLATS, [0, 1], BLEND))
    root = math.sqrt(3)
    wanted = 0.0
    for blended, decided in ((5 / 8, root / (1 + root)), (3 / 8, 1 / (1 + root))):
        overlap = blended * decided + 0.25
        total = blended**2 + decided**2 + 0.5
        wanted += (1 - 2 * overlap / total) / 2
    assert float(made.terms["consistency"].detach()) == pytest.approx(wanted, rel=1e-3)
    alone = make().terms(make_batch(SPLATS, [0, 1]))  # every pixel shows one splat: no difference
    assert float(alone.terms["consistency"].detach()) == pytest.approx(0.0, abs=1e-6)


def test_terms_of_weight_zero_are_not_formed() -> None:
    made = make(lambda_geom=0.0).terms(make_batch(SPLATS, [0, 1], BLEND))
    assert set(made.terms) == {"identity"}
    assert make(lambda_reg=0.0).neighbors == (5, 0, 1)


@pytest.mark.fault(row=24)
def test_a_view_without_targets_teaches_nothing() -> None:
    made = make(background=False).terms(make_batch(SPLATS, [0, -1], pairs=[(0, 1)]))
    assert {name: float(term.detach()) for name, term in made.terms.items()} == {"identity": 0.0}


@pytest.mark.fault(row=23)
def test_too_few_queries_are_refused() -> None:
    with pytest.raises(UserError, match="--num_queries 3 is too small: the masks have 7 ids"):
        make_method("id-map", IdMapParams(num_queries=3), make_facts(7))
    assert len(make_method("id-map", IdMapParams(num_queries=300), make_facts(7)).matched) == 300


def test_only_ids_that_were_taught_win_pixels_and_splats() -> None:
    method = make(ids=2)
    loud = torch.tensor([9.0, 1.0, 5.0])
    assert not method.segment(MapLens(loud.view(3, 1, 1).expand(3, 2, 4))).label_map.any()
    method.observe(method.terms(make_batch(torch.eye(3), [1, 1, 2])).seen)
    found = method.segment(MapLens(loud.view(3, 1, 1).expand(3, 2, 4)))
    assert found.label_map.unique().tolist() == [2]
    assert found.scores[2] == pytest.approx(1 / (1 + math.exp(-4)))
    splats = method.label_splats(SplatHolder(torch.stack([loud, loud.roll(-1)])))
    assert splats.labels.tolist() == [2, 2]  # 9, 1, 5 and 1, 5, 9
    assert splats.confidence.tolist() == pytest.approx([1 / (1 + math.exp(-4))] * 2)
