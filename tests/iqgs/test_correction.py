# SPDX-License-Identifier: Apache-2.0
"""Ids that the scene contradicts: against loops, on small cases by hand, and in training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from iqgs.methods import build_method
from iqgs.methods.iqgs import correction
from iqgs.methods.iqgs.correction import (
    LOST_SHARE,
    MOST_OF_MASK,
    PART_PRECISION,
    GivenMasks,
    corrected,
)
from iqgs.methods.iqgs.method import IQGS
from iqgs.methods.iqgs.params import IQGSParams
from iqgs.methods.protocol import SceneFacts
from scene.masks import NO_TARGET
from tests.iqgs.toy import (
    OPTIONS,
    MapLens,
    ToyView,
    ToyWorld,
    build,
    learn,
    make_world,
    mean_iou,
    train,
)
from utils.errors import UserError

SURE = 20.0  # logit of the query that a pixel is about


def shown(rows: list[int], queries: int) -> tuple[Tensor, Tensor]:
    """Queries [Q', Q'] and features [P, Q'] of pixels that surely show these rows."""
    return torch.eye(queries) * SURE, torch.eye(queries)[torch.tensor(rows)]


def given(
    labels: Tensor, regions: Tensor | None = None, apart: tuple[tuple[int, int], ...] = ()
) -> GivenMasks:
    """Masks whose ids all meet in some view, but for the pairs `apart`; regions are the masks."""
    together = torch.ones(10, 10, dtype=torch.bool)
    for first, second in apart:
        together[first, second] = together[second, first] = False
    return GivenMasks(labels, labels if regions is None else regions, together)


def correct(
    labels: list[int],
    rows: list[int],
    numbers: list[int],
    *,
    regions: list[int] | None = None,
    apart: tuple[tuple[int, int], ...] = (),
) -> list[int]:
    queries, features = shown(rows, len(numbers))
    masks = given(torch.tensor(labels), None if regions is None else torch.tensor(regions), apart)
    return corrected(masks, queries, torch.tensor(numbers), features, 0.2).tolist()


def slowly(
    masks: GivenMasks, queries: Tensor, numbers: Tensor, features: Tensor, least: float
) -> list[int]:
    """The docstring, pixel by pixel and mask by mask."""
    labels = masks.labels
    chance = [torch.softmax(queries @ feature, 0).tolist() for feature in features]
    pixels, result = range(len(labels)), labels.tolist()
    known = [x for x in pixels if labels[x] >= 0]
    best = [max(range(len(numbers)), key=lambda k, x=x: chance[x][k]) for x in pixels]
    for region in sorted({int(i) for i in masks.regions if i > 0}):
        inside = [x for x in pixels if masks.regions[x] == region]
        number = int(labels[inside[0]])
        measured = []
        for k in range(len(numbers)):
            overlap = sum(chance[x][k] for x in inside)
            claimed = sum(chance[x][k] for x in known)
            if numbers[k] > 0:
                iou = overlap / (len(inside) + claimed - overlap)
                measured.append((iou, overlap / len(inside), int(numbers[k])))
        iou, share, nearest = max(measured)
        _, precision, holder = max((p, p, n) for _, p, n in measured)
        if iou >= least:
            strangers = not masks.together[nearest, number]
            owner = nearest if share > MOST_OF_MASK or strangers else number
        else:
            owner = holder if precision > PART_PRECISION else number
        for x in inside:
            result[x] = owner
    for x in pixels:
        k = best[x]
        mine = [y for y in known if best[y] == k]
        bare = sum(int(labels[y]) == 0 for y in mine)
        if labels[x] == 0 and numbers[k] > 0 and bare > LOST_SHARE * len(mine):
            result[x] = NO_TARGET
    return result


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_it_is_the_loops(seed: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction, "CHUNK_ELEMENTS", chunk)
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([0, 2, 3, 7, 9])
    queries = torch.randn(5, 4, generator=generator, dtype=torch.float64) * 3
    labels = torch.tensor([-1, 0, 2, 3, 5, 9])[torch.randint(6, (40,), generator=generator)]
    seen = torch.randint(5, (12,), generator=generator)[labels + 1]  # each mask shows some query's
    noise = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    features = queries[seen] / 4 + noise / 2
    halves = torch.randint(2, (40,), generator=generator)
    regions = torch.where(labels > 0, 2 * labels + halves, labels)
    masks = given(labels, regions, ((2, 5), (3, 9), (7, 9), (2, 9)))
    found = corrected(masks, queries, numbers, features, 0.15)
    assert found.tolist() == slowly(masks, queries, numbers, features, 0.15)
    assert not torch.equal(found, labels)  # the cases are not idle


def test_a_part_with_an_id_of_its_own_goes_home() -> None:
    labels, rows = [1, 1, 1, 4, 4, 2], [1, 1, 1, 1, 1, 2]
    assert correct(labels, rows, [0, 1, 2]) == [1, 1, 1, 1, 1, 2]


def test_a_sliver_of_a_large_object_goes_home_by_precision() -> None:
    labels, rows = [1] * 30 + [4], [1] * 31
    assert correct(labels, rows, [0, 1, 4]) == [1] * 31


def test_exchanged_ids_are_exchanged_back() -> None:
    labels, rows = [1, 1, 1, 2, 2], [2, 2, 2, 1, 1]
    assert correct(labels, rows, [0, 1, 2]) == [2, 2, 2, 1, 1]


def test_a_thin_object_on_a_large_one_keeps_its_id() -> None:
    """Most of it is taken for the table, but less than a part would be, and IoU speaks for it."""
    labels, rows = [1] * 30 + [2] * 3, [1] * 32 + [2]
    assert correct(labels, rows, [0, 1, 2]) == labels


def test_an_object_that_answers_for_less_than_half_of_a_mask_does_not_take_it() -> None:
    """A rare object that is still learned: its best IoU is with one of which it shows two fifths,
    and that is nowhere else in the view."""
    labels, rows = [2, 2, 2, 2, 2, 0], [1, 1, 2, 3, 0, 0]
    assert correct(labels, rows, [0, 1, 2, 3]) == labels
    assert correct(labels, [1, 1, 1, 3, 0, 0], [0, 1, 2, 3])[:5] == [1] * 5


def test_the_halves_of_a_broken_track_become_one_though_neither_answers_for_most_of_it() -> None:
    """Each was taught half of the views. Different objects would have met in one of them."""
    labels, rows = [2, 2, 2, 2, 2, 0], [1, 1, 2, 3, 0, 0]
    assert correct(labels, rows, [0, 1, 2, 3], apart=((1, 2),))[:5] == [1] * 5
    assert correct(labels, rows, [0, 1, 2, 3], apart=((2, 3), (1, 3))) == labels


def test_two_things_with_one_id_are_judged_apart() -> None:
    """An exchange gave id 1 to object 2 where both are seen: the view's masks of 1 lie apart."""
    labels, rows, regions = [1] * 6, [1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 2, 2]
    assert correct(labels, rows, [0, 1, 2]) == labels
    assert correct(labels, rows, [0, 1, 2], regions=regions) == [1, 1, 1, 1, 2, 2]


def test_nothing_is_believed_of_queries_that_know_nothing() -> None:
    labels = torch.tensor([1, 1, 2, 0, -1])
    flat = corrected(given(labels), torch.zeros(9, 4), torch.arange(9), torch.randn(5, 4), 0.2)
    assert torch.equal(flat, labels)
    nobody = torch.zeros(0, dtype=torch.int64)
    none = corrected(given(labels), torch.zeros(0, 4), nobody, torch.randn(5, 4), 0.2)
    assert none is labels


def test_pixels_of_a_missing_mask_have_no_target_and_others_keep_it() -> None:
    labels, rows = [0, 0, 0, 1, 0, 2, 2, 0], [1, 1, 1, 1, 0, 2, 2, 2]
    kept = [NO_TARGET] * 3 + [1, 0, 2, 2, 0]  # id 0 over a third of object 2 stands
    assert correct(labels, rows, [0, 1, 2]) == kept


def test_neither_zero_nor_no_target_goes_to_an_object() -> None:
    assert correct([0, -1], [1, 1], [0, 1])[1] == -1
    assert correct([2, 2], [0, 0], [0, 1, 2]) == [2, 2]  # nor a mask to the background


def faulty(view: ToyView, rng: np.random.Generator, extra: dict[int, int]) -> ToyView:
    """In half of the cases one side of an object of this view has another id, the same in all."""
    labels = view.labels.clone()
    column = torch.arange(len(labels)) % 40
    for number in torch.unique(labels[labels > 0]).tolist():
        inside = labels == number
        if rng.random() < 0.5:
            left = column < column[inside].float().mean()
            labels[inside & (left if rng.random() < 0.5 else ~left)] = extra[number]
    return replace(view, labels=labels)


@pytest.fixture(scope="module")
def world() -> ToyWorld:
    return make_world(views=26)


def learned(world: ToyWorld, least: float) -> tuple[IQGS, float]:
    """A method that learned from masks of which half are split, and its score on clean ones."""
    rng = np.random.default_rng(0)
    extra = {i: world.num_ids + i for i in range(1, world.num_ids + 1)}
    views = [faulty(view, rng, extra) for view in world.views[:-4]]
    ids = 2 * world.num_ids
    method = build(replace(OPTIONS, num_ids=ids, num_queries=ids + 1, correction_iou=least))
    instance = train(method, world, views, 200)
    held_out = world.views[-4:]
    maps = [method.segment(MapLens(v.render(instance))).label_map.flatten() for v in held_out]
    return method, mean_iou(maps, [v.labels for v in held_out])


def test_split_masks_are_learned_as_one_object(world: ToyWorld) -> None:
    """The ids of parts lose nearly all of their masks to the objects, and nothing else does."""
    believing, plain = learned(world, 0.0)
    doubting, better = learned(world, 0.2)
    parts = slice(world.num_ids + 1, None)
    assert believing.usage[parts].min() > 0.25
    assert doubting.usage[parts].max() < 0.1
    assert torch.allclose(doubting.usage[: parts.start], believing.usage[: parts.start], atol=0.03)
    assert better > max(plain, 0.975)


def test_ids_of_one_view_are_not_corrected(world: ToyWorld) -> None:
    """Hungarian matching: the scene says nothing about numbers that mean nothing."""
    method = build(replace(OPTIONS, matching="hungarian", num_queries=9, correction_iou=0.2))
    method.matched[:] = True
    step = world.views[0].step(
        torch.randn(2500, 16), torch.arange(3), world.pairs[:2], torch.tensor([4, 4, 5])
    )
    assert method._believed(step, torch.randn(3, 16)) is step.labels
    assert method.together.numel() == 0


def test_training_notes_which_ids_meet_and_older_states_do_not_say(world: ToyWorld) -> None:
    """Ids that no view shows never meet; pixels without a target count as showing none."""
    method = build(replace(OPTIONS, correction_iou=0.2)).train()
    seen = torch.zeros_like(method.together)
    for view in world.views[:3]:
        pixels = torch.arange(0, 1600, 2)
        labels = torch.where(view.labels % 2 == 0, view.labels, -1)[pixels]
        labels[:5] = -1
        step = view.step(torch.randn(2500, 16) / 10, pixels, world.pairs[:5], labels)
        learn(method, step)
        for first in labels.clamp_min(0).tolist():
            seen[first, labels.clamp_min(0)] = True
    assert torch.equal(method.together, seen)
    assert 0 < seen.sum() < seen.numel()
    state = method.state_dict()
    del state["together"]
    method.load_state_dict(state)  # what is known meanwhile stays
    assert torch.equal(method.together, seen)


def test_regions_of_the_view_are_asked_for_where_the_step_has_them(world: ToyWorld) -> None:
    """The scene shows object 2 in one of two places that the masks call 1."""
    method = build(replace(OPTIONS, correction_iou=0.2))
    method.matched[:3] = True
    queries, features = shown([1, 1, 1, 1, 2, 2], 16)
    method.steady_queries[:3] = queries[:3]
    method.together[:] = True
    step = world.views[0].step(
        torch.randn(2500, 16), torch.arange(6), world.pairs[:2], torch.ones(6, dtype=torch.int64)
    )
    assert method._believed(step, features).tolist() == [1] * 6
    step = replace(step, regions=lambda: torch.tensor([5, 5, 5, 5, 7, 7]))
    assert method._believed(step, features).tolist() == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("noisy", [False, True])
def test_repaired_masks_are_not_corrected_again(noisy: bool) -> None:
    facts = SceneFacts(6, 6, True, 16, 0, noisy=noisy)
    method = build_method("iqgs", IQGSParams(correction_iou=-1.0, num_queries=0), facts)
    assert isinstance(method, IQGS)
    assert method.params.correction_iou == (0.0 if noisy else 0.2)
    chosen = build_method("iqgs", IQGSParams(correction_iou=0.3, num_queries=0), facts)
    assert isinstance(chosen, IQGS)
    assert chosen.params.correction_iou == 0.3


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_least_iou_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="--correction_iou"):
        build(replace(OPTIONS, correction_iou=value))
