# SPDX-License-Identifier: Apache-2.0
"""Who owns what: ids, assignments, the reserved query, and refusals that say what to do."""

from __future__ import annotations

import itertools

import pytest
import torch

from iqgs.methods.iqgs.losses import dice_loss, focal_loss
from iqgs.methods.iqgs.matching import (
    HungarianMatcher,
    IDMatcher,
    Matching,
    MatchingCost,
    matching_sample,
    owners,
)
from iqgs.methods.iqgs.params import HungarianParams
from utils.errors import RunError, UserError

COST = MatchingCost(mask=20.0, dice=1.0, gamma=2.0, alpha=None)


def hungarian(
    queries: int, background: bool, cost: MatchingCost, usage_cost: float
) -> HungarianMatcher:
    return HungarianMatcher(queries, background, cost, HungarianParams(usage_cost=usage_cost))


def match(
    matcher: IDMatcher | HungarianMatcher,
    logits: torch.Tensor,
    labels: torch.Tensor,
    usage: torch.Tensor | None = None,
) -> Matching:
    """One call for both, with logits of all labelled pixels at hand."""
    if usage is None:
        usage = torch.zeros(matcher.stop)
    return matcher(labels, lambda chosen: logits if chosen is None else logits[:, chosen], usage)


def views(seed: int, ids: int, queries: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, ids + 1, (60,), generator=generator)
    labels[: ids + 1] = torch.arange(ids + 1)
    return torch.randn(queries, 60, generator=generator) * 2, labels


def test_id_matching_gives_every_present_id_its_own_query() -> None:
    labels = torch.tensor([4, 0, 4, 2, 2, 0])
    matching = match(IDMatcher(6, 5, background=True), labels[:0], labels)
    assert matching.query.tolist() == matching.target.tolist() == [0, 2, 4]
    assert owners(matching, labels).tolist() == labels.tolist()


@pytest.mark.fault(row=23)
def test_id_matching_names_the_flag_and_the_number_needed() -> None:
    IDMatcher(301, 300, background=True)
    with pytest.raises(
        UserError, match=r"--num_queries 300 .*--num_queries|pass --num_queries 301"
    ):
        IDMatcher(300, 300, background=True)
    with pytest.raises(UserError, match="compact id 9"):
        match(IDMatcher(10, 5, background=True), torch.zeros(0), torch.tensor([9]))


@pytest.mark.parametrize("background", [True, False])
def test_hungarian_is_the_cheapest_of_all_assignments(background: bool) -> None:
    for seed in range(5):
        logits, labels = views(seed, ids=3, queries=6)
        matcher = hungarian(6, background, COST, 0.0)
        if not background:
            labels, logits = labels[labels > 0], logits[:, labels > 0]
        matching = match(matcher, logits[matcher.first :], labels)

        def cost_of(queries: tuple[int, ...], logits=logits, labels=labels) -> float:  # noqa: B008
            masks = torch.stack([labels == i for i in (1, 2, 3)])
            chosen = logits[list(queries)]
            pairs = 20.0 * focal_loss(chosen, masks, 2.0, None) + dice_loss(chosen, masks)
            return float(pairs.sum())

        best = min(itertools.permutations(range(1, 6), 3), key=cost_of)
        objects = matching.target > 0
        assert matching.target[objects].tolist() == [1, 2, 3]
        assert tuple(matching.query[objects].tolist()) == best
        assert objects.all() or matching.query[~objects].tolist() == [0]
        assert bool((matching.target == 0).any()) == background


def test_hungarian_follows_a_permutation_of_the_queries() -> None:
    logits, labels = views(7, ids=4, queries=9)
    matcher = hungarian(9, True, COST, 0.0)
    before = match(matcher, logits, labels)
    order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(8)])
    after = match(matcher, logits[order], labels)
    assert torch.equal(after.target, before.target)
    assert torch.equal(order[after.query], before.query)


def test_background_is_pinned_even_if_another_query_fits_it_better() -> None:
    labels = torch.tensor([0] * 30 + [1] * 10)
    logits = torch.full((4, 40), -1.0)
    logits[2] = torch.where(labels == 0, 9.0, -9.0)
    matching = match(hungarian(4, True, COST, 0.0), logits, labels)
    assert matching.query[0] == 0
    assert matching.target.tolist() == [0, 1]
    assert matching.query[1] != 2


def test_perfect_queries_are_found() -> None:
    labels = torch.arange(5).repeat_interleave(8)
    order = torch.tensor([0, 3, 1, 4, 2])  # query of each id
    logits = torch.full((7, 40), -6.0)
    for number, query in enumerate(order.tolist()):
        logits[query] = torch.where(labels == number, 6.0, -6.0)
    for alpha in (None, 0.25):
        cost = MatchingCost(20.0, 1.0, 2.0, alpha)
        matching = match(hungarian(7, True, cost, 0.0), logits, labels)
        assert matching.query.tolist() == order.tolist()
        assert torch.equal(owners(matching, labels), order[labels])


@pytest.mark.fault(row=34)
@pytest.mark.fault(row=24)
def test_hungarian_refuses_more_objects_than_queries_and_broken_scores() -> None:
    labels = torch.arange(1, 6)
    matching = match(hungarian(6, True, COST, 0.0), torch.randn(6, 5), labels)
    assert sorted(matching.query.tolist()) == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match="--num_queries 6 or more"):
        match(hungarian(5, True, COST, 0.0), torch.randn(5, 5), labels)
    with pytest.raises(RunError, match="not finite"):
        match(hungarian(6, True, COST, 0.0), torch.full((6, 5), float("nan")), labels)


def test_a_view_of_background_only_or_of_nothing() -> None:
    matcher = hungarian(4, True, COST, 0.0)
    only = match(matcher, torch.randn(4, 6), torch.zeros(6, dtype=torch.int64))
    assert only.query.tolist() == only.target.tolist() == [0]
    nothing = match(
        hungarian(4, False, COST, 0.0), torch.randn(3, 0), torch.zeros(0, dtype=torch.int64)
    )
    assert nothing.query.numel() == 0


def test_an_unknown_object_goes_to_a_query_that_owns_nothing() -> None:
    """Usage breaks ties between queries that know an object equally little, and only those."""
    labels = torch.tensor([1, 1, 2, 2, 0, 0])
    logits = torch.zeros(4, 6)
    logits[1] = torch.where(labels == 1, 8.0, -8.0)  # query 1 knows object 1
    usage = torch.tensor([1.0, 1.0, 0.9, 0.0])  # query 2 owns something that this view lacks
    matcher = hungarian(4, True, COST, 0.3)
    assert match(matcher, logits, labels, usage).query.tolist() == [0, 1, 3]
    flipped = torch.tensor([1.0, 1.0, 0.0, 0.9])
    assert match(matcher, logits, labels, flipped).query.tolist() == [0, 1, 2]


def test_the_matching_sample_holds_every_id() -> None:
    labels = torch.zeros(10_000, dtype=torch.int64)
    labels[3:6], labels[7001] = 4, 9  # smaller than the stride
    labels[5000:] = torch.where(labels[5000:] == 0, 2, labels[5000:])
    chosen = matching_sample(labels, 100)
    assert chosen is not None and 100 <= len(chosen) <= 104
    assert set(labels[chosen].tolist()) == {0, 2, 4, 9}
    assert len(chosen.unique()) == len(chosen)
    assert matching_sample(labels, 10_000) is None
