# SPDX-License-Identifier: Apache-2.0
"""Training on a toy world, the guards against collapse, and how a trained method is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from iqgs.methods.iqgs.method import IQGS
from iqgs.methods.protocol import Batch
from tests.iqgs.toy import (
    OPTIONS,
    MapLens,
    SplatHolder,
    ToyWorld,
    assign_once,
    build,
    learn,
    make_world,
    mean_iou,
    shuffle_ids,
    train,
)
from utils.errors import UserError

HELD_OUT = 2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> ToyWorld:
    return make_world()


@pytest.fixture(scope="module")
def trained(world: ToyWorld) -> tuple[IQGS, Tensor]:
    """ID matching with many more queries than ids."""
    method = build(replace(OPTIONS, num_queries=20))
    return method, train(method, world, world.views[:-HELD_OUT], 150)


def held_out(
    method: IQGS, instance: Tensor, world: ToyWorld, panoptic: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    views = world.views[-HELD_OUT:]
    maps = [method.segment(MapLens(v.render(instance)), panoptic=panoptic).label_map for v in views]
    return [m.flatten() for m in maps], [v.labels for v in views]


def test_id_matching_learns_the_toy_world(trained: tuple[IQGS, Tensor], world: ToyWorld) -> None:
    method, instance = trained
    predicted, true = held_out(method, instance, world)
    assert mean_iou(predicted, true) > 0.95
    for prediction, truth in zip(predicted, true, strict=True):
        seen, there = len(torch.unique(prediction)), len(torch.unique(truth))
        assert 0.7 * there <= seen <= 1.3 * there
    points = method.label_splats(SplatHolder(instance))
    visible = torch.cat([v.splat[:, 0] for v in world.views[:-HELD_OUT]]).unique()
    agrees = points.labels[visible] == world.labels[visible]
    assert agrees.float().mean() > 0.9
    assert points.confidence[visible].mean() > 0.9
    assert points.confidence.max() <= 1


def test_hungarian_learns_from_ids_that_change_in_every_view() -> None:
    """Wide views: two objects that are hardly ever seen together may share a query."""
    world = make_world(window=0.8)
    method = build(replace(OPTIONS, matching="hungarian", num_queries=13))
    rng = np.random.default_rng(0)
    views = [shuffle_ids(v, rng, world.num_ids) for v in world.views[:-HELD_OUT]]
    instance = train(method, world, views, 150)
    predicted, true = held_out(method, instance, world)
    assert mean_iou(assign_once(predicted, true), true) > 0.8
    visible = torch.cat([v.splat[:, 0] for v in views]).unique()
    points = method.label_splats(SplatHolder(instance)).labels[visible]
    renamed = assign_once([points], [world.labels[visible]])[0]
    assert (renamed == world.labels[visible]).float().mean() > 0.8


def test_ignored_zero_label_learns_the_labelled_pixels(world: ToyWorld) -> None:
    method = build(replace(OPTIONS, zero_label="ignore"))
    instance = train(method, world, world.views[:-HELD_OUT], 150)
    predicted, true = held_out(method, instance, world)
    labelled = [t > 0 for t in true]
    inside = [p[keep] for p, keep in zip(predicted, labelled, strict=True)]
    assert mean_iou(inside, [t[t > 0] for t in true]) > 0.95
    assert all((p > 0).all() for p in predicted)  # nothing ever taught where no object is
    assert not method.matched[0]


def test_trained_queries_and_features_differ(trained: tuple[IQGS, Tensor], world: ToyWorld) -> None:
    method, instance = trained
    assert method.enrich(world.views[0].render(instance)).std(0).mean() > 0.1
    assert method.projection(instance).std(0).mean() > 0.1


def test_equation_5_without_residuals_collapses(world: ToyWorld) -> None:
    method = build(replace(OPTIONS, literal_attention=True))
    instance = train(method, world, world.views[:-HELD_OUT], 100)
    assert method.enrich(world.views[0].render(instance)).std(0).mean() < 1e-4
    assert mean_iou(*held_out(method, instance, world)) < 0.3


def test_wide_attributes_under_the_literal_smoothness_learn_less(world: ToyWorld) -> None:
    options = replace(OPTIONS, reg_target="feature")
    scores = {}
    for scale in (0.1, 2.0):
        method = build(options)
        instance = train(method, world, world.views[:-HELD_OUT], 100, scale)
        scores[scale] = mean_iou(*held_out(method, instance, world))
    assert scores[0.1] > scores[2.0] + 0.2


def test_untrained_queries_never_win(trained: tuple[IQGS, Tensor], world: ToyWorld) -> None:
    method, instance = trained
    assert method.matched.nonzero().flatten().tolist() == list(range(7))
    loud = build(replace(OPTIONS, num_queries=20))
    loud.load_state_dict(method.state_dict())
    with torch.no_grad():
        loud.mean_queries[7:] *= 100.0
    points = loud.label_splats(SplatHolder(instance)).labels
    assert torch.equal(points, method.label_splats(SplatHolder(instance)).labels)
    view_map = world.views[0].render(instance)
    assert int(method.segment(MapLens(view_map), panoptic=False).label_map.max()) <= 6
    fresh = build(OPTIONS)
    assert not fresh.segment(MapLens(view_map)).label_map.any()
    assert not fresh.label_splats(SplatHolder(instance)).confidence.any()


def test_state_round_trip_and_same_seed_give_equal_bits(
    trained: tuple[IQGS, Tensor], world: ToyWorld
) -> None:
    method, instance = trained
    other = build(replace(OPTIONS, num_queries=20, seed=9))
    other.load_state_dict(method.state_dict())
    for view in world.views[-HELD_OUT:]:
        one, two = (
            method.segment(MapLens(view.render(instance))),
            other.segment(MapLens(view.render(instance))),
        )
        assert torch.equal(one.label_map, two.label_map)
        assert one.scores == two.scores
    assert torch.equal(
        method.label_splats(SplatHolder(instance)).confidence,
        other.label_splats(SplatHolder(instance)).confidence,
    )
    again = build(replace(OPTIONS, num_queries=20))
    views = world.views[:-HELD_OUT]
    runs = [train(build(replace(OPTIONS, num_queries=20)), world, views, 5)
            for _ in range(2)]  # fmt: skip
    assert torch.equal(*runs)
    assert not torch.equal(again.decoder.queries, other.decoder.queries)


def test_mean_queries_are_a_running_mean_and_then_the_exact_one(
    trained: tuple[IQGS, Tensor], world: ToyWorld
) -> None:
    method, instance = trained
    maps = [view.render(instance) for view in world.views[:-HELD_OUT]]
    exact = torch.stack([method.enrich(m) for m in maps]).mean(0)
    copy = build(replace(OPTIONS, num_queries=20))
    copy.load_state_dict(method.state_dict())
    between = (copy.mean_queries[:7] - exact[:7]).abs().mean()
    assert between < 0.5 * exact[:7].std(0).mean()  # stale, but of the same queries
    copy.finish(MapLens(m) for m in maps)
    torch.testing.assert_close(copy.mean_queries, exact)
    with pytest.raises(ValueError, match="at least one view"):
        copy.finish([])


def hand_made(rows: Tensor, matched: list[int], zero_label: str = "background") -> IQGS:
    """A method whose scores of a map [3, H, W] are `rows` [Q, 3] times the pixel."""
    size = max(2, rows.shape[0])
    method = build(
        replace(OPTIONS, instance_dim=3, feature_dim=3, num_queries=size, num_ids=1,
                zero_label=zero_label)
    )  # fmt: skip
    method.enrich = lambda _: rows  # type: ignore[method-assign]
    with torch.no_grad():
        method.projection.weight.copy_(torch.eye(3))
        method.mean_queries.copy_(rows)
    method.matched[matched] = True
    return method


def test_background_wins_as_zero_and_empty_pixels_are_zero() -> None:
    rows = torch.tensor([[4.0, -4, -4], [-4, 4, -4], [-4, -4, 4]])
    pixels = torch.eye(3)[:, [0, 1, 2, 1]].reshape(3, 2, 2)
    pixels[:, 1, 1] = 0.0  # nothing rendered
    result = hand_made(rows, [0, 1, 2]).segment(MapLens(pixels), panoptic=False)
    assert result.label_map.tolist() == [[0, 1], [2, 0]]
    assert result.scores == pytest.approx({1: 1 / (1 + np.exp(-4)), 2: 1 / (1 + np.exp(-4))})
    ignoring = hand_made(rows, [1, 2], "ignore").segment(MapLens(pixels), panoptic=False)
    assert ignoring.label_map.tolist() == [[1, 1], [2, 0]]


def test_panoptic_filter_drops_queries_hidden_under_others_and_slivers() -> None:
    """Query 1 claims everything and wins little; 2 owns the left half; 3 wins three pixels."""
    left = torch.zeros(3, 4, 8)
    left[0] = 1.0
    left[1, :, :4] = 1.0
    left[2, 0, 5:8] = 1.0
    rows = torch.tensor([[0.4, 0, 0], [0.5, 0, 0], [-0.1, 5, 0], [-0.1, 0, 5.0]])
    method = hand_made(rows, [0, 1, 2, 3])
    method_plain = method.segment(MapLens(left), panoptic=False)
    assert sorted(method_plain.scores) == [1, 2, 3]
    filtered = method.segment(MapLens(left), panoptic=True)
    assert sorted(filtered.scores) == [2]
    assert (filtered.label_map[:, :4] == 2).all()
    assert (filtered.label_map[:, 4:] == 0).all()  # background takes what the others lose
    no_background = hand_made(rows, [1, 3]).segment(MapLens(left[:, :, 4:]), panoptic=True)
    assert sorted(no_background.scores) == [1]


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        views = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        sizes = [t.untyped_storage().nbytes() // t.element_size() for t in views]
        self.elements = max([self.elements, *sizes])
        return result


def test_inference_never_holds_all_queries_at_all_pixels() -> None:
    method = build(replace(OPTIONS, num_queries=301, num_ids=300))
    method.matched[:] = True
    height, width = 200, 300
    pixels = torch.randn(16, height, width)
    with LargestTensor() as largest:
        method.segment(MapLens(pixels))
    assert largest.elements <= 301 * 4096  # the attention over its subsample
    assert largest.elements < 301 * height * width / 10
    method.mean_queries.normal_()
    with LargestTensor() as largest:
        method.label_splats(SplatHolder(torch.randn(100_000, 16)))
    assert largest.elements <= 100_000 * 16


def test_training_forms_scores_for_supervised_queries_only() -> None:
    method = build(replace(OPTIONS, num_queries=301))
    pixels, splats = 50_000, 5_000
    instance = torch.randn(splats, 16, requires_grad=True)
    index = torch.randint(splats, (pixels,))
    step = Batch(
        features=instance[index],
        labels=torch.randint(0, 7, (pixels,)),
        instance=instance,
        touched=torch.arange(splats),
        splat=lambda values: values[index],
        pairs=torch.randint(splats, (500, 2)),
        alpha=torch.ones(pixels),
        pixels=torch.arange(pixels),
        view=0,
    )
    with LargestTensor() as largest:
        sum(learn(method, step).values()).backward()
    assert largest.elements <= max(301 * 4096, 16 * pixels)
    assert largest.elements < 301 * pixels / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_queries": 6}, "--num_queries 7 or more"),
        ({"focal_alpha": -2.0}, "--focal_alpha"),
        ({"feature_dim": 0}, "--feature_dim"),
        ({"matching": "hungarian", "num_queries": 1}, "--num_queries"),
    ],
)
def test_bad_options_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(replace(OPTIONS, **change))


def test_steady_matching_is_judged_by_queries_averaged_over_views(world: ToyWorld) -> None:
    """After the first step the matcher must see the averaged queries, not the view's own."""
    options = replace(OPTIONS, matching="hungarian", num_queries=13, steady_matching=True)
    method = build(options)
    seen: list[torch.Tensor] = []
    matcher = method.matcher

    class Recorder:
        first, stop, steady, background = matcher.first, matcher.stop, True, True

        def __call__(self, labels: Tensor, logits: Any, usage: Tensor) -> object:
            seen.append(logits(None).detach().clone())
            return matcher(labels, logits, usage)

    method.matcher = Recorder()  # type: ignore[assignment]
    view, generator = world.views[0], torch.Generator().manual_seed(0)
    pixels = torch.randperm(view.labels.numel(), generator=generator)[:200]
    instance = torch.randn(len(world.labels), 16, generator=generator)
    step = view.step(instance, pixels, torch.zeros(0, 2, dtype=torch.int64), view.labels[pixels])
    learn(method, step)
    steady = method.steady_queries.clone()
    with torch.no_grad():  # the view's own queries now differ from the average
        method.decoder.queries.add_(torch.randn_like(method.decoder.queries))
    learn(method, step)
    with torch.no_grad():
        features = method.projection(step.features)
        expected = steady[matcher.first : matcher.stop] @ features.T
        own = method.decoder(features)[matcher.first : matcher.stop] @ features.T
    assert torch.allclose(seen[1], expected, atol=1e-5)
    assert not torch.allclose(seen[1], own, atol=1e-2)


@pytest.mark.parametrize(("matching", "doubt"), [("id", None), ("hungarian", 1.0)])
def test_what_is_matched_in_each_view_alone_is_in_doubt(
    matching: str, doubt: float | None, world: ToyWorld
) -> None:
    """Ids that mean the same are trusted where nothing corrects them."""
    method = build(replace(OPTIONS, matching=matching, num_queries=13))
    assert method.params.correction_iou == 0
    view, pixels = world.views[0], torch.arange(0, len(world.views[0].labels), 3)
    batch = view.step(torch.randn(len(world.labels), 16), pixels, world.pairs, view.labels[pixels])
    found = method.terms(batch).doubt
    assert (None if found is None else float(found)) == doubt
