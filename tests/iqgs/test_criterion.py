# SPDX-License-Identifier: Apache-2.0
"""The terms of one step against loops over queries in float64; divisors; what id 0 does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from iqgs.methods.iqgs.decoder import score
from iqgs.methods.iqgs.method import IQGS
from iqgs.methods.protocol import Batch, total_loss
from tests.iqgs.toy import OPTIONS, TERM_NAMES, build, learn

SMALL = replace(OPTIONS, feature_dim=4, instance_dim=5)


def make_step(labels: list[int], seed: int = 0) -> tuple[Batch, Tensor]:
    """A step over 12 splats, with its dense weights [P, N]; float64."""
    generator = torch.Generator().manual_seed(seed)
    pixels = len(labels)
    instance = torch.randn(12, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(pixels, 12, generator=generator, dtype=torch.float64) / 8
    weights[:, [1, 4]] = 0.0  # splats out of sight
    touched = weights.sum(0).nonzero().flatten()
    local = weights[:, touched]
    step = Batch(
        features=weights @ instance,
        labels=torch.tensor(labels),
        instance=instance,
        touched=touched,
        splat=lambda values: local @ values,
        pairs=torch.tensor([[0, 1], [2, 3], [11, 4]]),
        alpha=weights.sum(1),
        pixels=torch.arange(pixels),
        view=0,
    )
    return step, weights


def slow_terms(
    method: IQGS, step: Batch, weights: Tensor, owner: dict[int, int], supervised: range
) -> dict[str, Tensor]:
    """Eq. 11-14 query by query; owner maps id -> query."""
    project = method.projection
    queries = method.decoder(project(step.features))
    keep = [p for p, label in enumerate(step.labels.tolist()) if label in owner]
    pixels = project(step.features)[keep]
    scene = project(step.instance)
    query_of_pixel = [owner[int(step.labels[p])] for p in keep]
    zero = torch.zeros((), dtype=torch.float64)
    mask, dice, reg, consistency = zero, zero, zero, zero
    for number in supervised:
        truth = torch.tensor([float(q == number) for q in query_of_pixel], dtype=torch.float64)
        p2d = torch.sigmoid(pixels @ queries[number])
        right = truth * p2d + (1 - truth) * (1 - p2d)
        mask = mask - ((1 - right) ** 2 * right.log()).mean()
        if number not in owner.values():
            continue
        dice = dice + 1 - (2 * (p2d * truth).sum() + 1) / (p2d.sum() + truth.sum() + 1)
        p3d = torch.sigmoid(scene @ queries[number])
        for i, j in step.pairs.tolist():
            reg = reg + (p3d[i] - p3d[j]) ** 2 / len(step.pairs)
        shown = (weights @ p3d)[keep]
        fraction = 2 * (shown * p2d).sum() / ((shown**2).sum() + (p2d**2).sum())
        consistency = consistency + 1 - fraction
    count = len(owner)
    sums = (mask, dice, reg, consistency)
    return {name: value / count for name, value in zip(TERM_NAMES, sums, strict=True)}


@pytest.mark.parametrize("zero_label", ["background", "ignore"])
def test_id_terms_are_the_loops(zero_label: str) -> None:
    method = build(replace(SMALL, zero_label=zero_label)).double()
    step, weights = make_step([0, 0, 2, -1, 2, 2, 5, 5, 0, -1, 6])
    owner = {i: i for i in (0, 2, 5, 6) if zero_label == "background" or i > 0}
    first = 0 if zero_label == "background" else 1
    expected = slow_terms(method, step, weights, owner, range(first, 7))
    actual = learn(method, step)
    assert set(actual) == set(TERM_NAMES)
    for name in TERM_NAMES:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("zero_label", ["background", "ignore"])
def test_hungarian_terms_are_the_loops_with_all_unmatched_queries_empty(zero_label: str) -> None:
    options = replace(SMALL, zero_label=zero_label, matching="hungarian", num_queries=9)
    method = build(options).double()
    step, weights = make_step([0, 0, 2, -1, 2, 2, 5, 5, 0, -1, 6])
    learn(method, step)
    found = method.matched.nonzero().flatten().tolist()  # only the first step so far
    keep = step.labels >= (0 if zero_label == "background" else 1)
    queries = method.decoder(method.projection(step.features))
    logits = score(queries, method.projection(step.features))[method.matcher.first :, keep]
    matching = method.matcher(step.labels[keep], lambda _: logits, method.usage)
    assert sorted(matching.query.tolist()) == found
    owner = dict(zip(matching.target.tolist(), matching.query.tolist(), strict=True))
    expected = slow_terms(method, step, weights, owner, range(method.matcher.first, 9))
    actual = learn(method, step)
    for name in TERM_NAMES:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-7)


def test_hungarian_terms_do_not_change_when_the_queries_change_places() -> None:
    method = build(replace(SMALL, matching="hungarian", num_queries=9)).double()
    step, _ = make_step([0, 1, 1, 2, 2, 3, 3, 0, 6])
    before = learn(method, step)
    with torch.no_grad():
        order = 1 + torch.randperm(8, generator=torch.Generator().manual_seed(5))
        method.decoder.queries[1:] = method.decoder.queries[order]
    for name, value in learn(method, step).items():
        torch.testing.assert_close(value, before[name])


def test_gradient_of_the_whole_loss() -> None:
    method = build(SMALL).double()
    step, weights = make_step([0, 2, 2, 5, 1])

    def loss(instance: Tensor, queries: Tensor, weight: Tensor) -> Tensor:
        moved = replace(step, instance=instance, features=weights @ instance)
        state = {"decoder.queries": queries, "projection.weight": weight}
        terms = torch.func.functional_call(Terms(method), with_prefix(state), (moved,))
        return total_loss(terms, method.weights)

    inputs = (step.instance, method.decoder.queries, method.projection.weight)
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


class Terms(torch.nn.Module):
    """`terms` as a forward, for functional_call; in evaluation mode, which notes nothing."""

    def __init__(self, method: IQGS) -> None:
        super().__init__()
        self.method = method.eval()

    def forward(self, step: Batch) -> dict[str, Tensor]:
        return learn(self.method, step)


def with_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"method.{name}": value for name, value in state.items()}


def test_feature_target_is_equation_13_literally() -> None:
    method = build(replace(SMALL, reg_target="feature")).double()
    step, _ = make_step([0, 1, 1])
    features = method.projection(step.instance)
    pairs = step.pairs.tolist()
    expected = sum(((features[i] - features[j]) ** 2).sum() for i, j in pairs) / len(pairs)
    torch.testing.assert_close(learn(method, step)["reg3d"], expected)


def test_consistency_means_something_only_behind_the_sigmoid() -> None:
    method = build(SMALL).double()
    step, weights = make_step([0, 1, 2, 3, 4, 5, 6])
    queries = method.decoder(method.projection(step.features))
    raw_3d = weights @ score(queries, method.projection(step.instance)).T
    raw_2d = score(queries, method.projection(step.features)).T
    torch.testing.assert_close(raw_3d, raw_2d)  # an identity: nothing to learn from raw scores
    assert learn(method, step)["consistency"].item() > 0.01


@pytest.mark.parametrize(
    ("zero_label", "unknown"), [("ignore", 0), ("ignore", -1), ("background", -1)]
)
def test_ignored_pixels_enter_no_loss(zero_label: str, unknown: int) -> None:
    method = build(replace(SMALL, zero_label=zero_label)).double()
    step, _ = make_step([unknown, 3, unknown, 4, 3])
    seen: list[Tensor] = []

    def splat(values: Tensor) -> Tensor:
        seen.append(step.splat(values))
        seen[0].retain_grad()
        return seen[0]

    learn(method, replace(step, splat=splat))["consistency"].backward()
    assert seen[0].grad is not None
    assert not seen[0].grad[[0, 2]].any()
    assert seen[0].grad[[1, 3, 4]].all()


@pytest.mark.parametrize(("zero_label", "unknown"), [("ignore", 0), ("background", -1)])
@pytest.mark.parametrize("matching", ["id", "hungarian"])
def test_a_step_without_any_labelled_pixel_is_zero_with_zero_gradient(
    matching: str, zero_label: str, unknown: int
) -> None:
    method = build(replace(SMALL, zero_label=zero_label, matching=matching)).double()
    step, _ = make_step([unknown] * 3)
    total = total_loss(learn(method, step), method.weights)
    total.backward()
    assert total.item() == 0.0
    assert step.instance.grad is not None
    assert not step.instance.grad.any()
    assert not method.matched.any()


def test_no_pairs_means_no_smoothness() -> None:
    method = build(SMALL).double()
    step, _ = make_step([0, 1, 1])
    for target in ("probability", "feature"):
        method = build(replace(SMALL, reg_target=target)).double()
        empty = replace(step, pairs=torch.zeros(0, 2, dtype=torch.int64))
        assert learn(method, empty)["reg3d"].item() == 0.0


def test_terms_of_weight_zero_are_not_formed() -> None:
    method = build(replace(SMALL, lambda_reg=0.0, lambda_geom=0.0)).double()
    step, _ = make_step([0, 1, 1])

    def refuse(values: Tensor) -> Tensor:
        raise AssertionError("splat was called for a term of weight 0")

    assert set(learn(method, replace(step, splat=refuse))) == {"mask", "dice"}


def test_total_is_the_weighted_sum_and_wants_a_weight_for_each_term() -> None:
    terms = {"mask": torch.tensor(0.5), "dice": torch.tensor(2.0)}
    assert total_loss(terms, {"mask": 20.0, "dice": 1.0, "reg3d": 3.0}).item() == 12.0
    with pytest.raises(ValueError, match="dice"):
        total_loss(terms, {"mask": 20.0})
    with pytest.raises(ValueError, match="terms"):
        total_loss({}, {})


@pytest.mark.parametrize("zero_label", ["background", "ignore"])
def test_consistency_a_few_queries_at_a_time_changes_nothing(
    zero_label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build(replace(SMALL, zero_label=zero_label)).double()
    step, _ = make_step([0, 0, 2, 2, 2, 5, 5, 0, 6])

    def gradients() -> tuple[Tensor, ...]:
        term = learn(method, step)["consistency"]
        inputs = (method.projection.weight, method.decoder.queries, step.instance)
        return (term, *torch.autograd.grad(term, inputs, retain_graph=True))

    whole = gradients()
    monkeypatch.setattr("iqgs.methods.iqgs.criterion.CELLS_AT_ONCE", 20)  # two queries at a time
    for found, expected in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(found, expected)
