# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from scene.densification import (
    RESET_OPACITY,
    SPLIT_SHRINK,
    Densifier,
    DensifyThresholds,
    clone,
    reset_opacity,
    split_within,
)
from scene.gaussian_model import GaussianModel
from scene.optimizer import edit_rows, make_optimizer
from scene.parameters import PARAMETER_NAMES
from scene.points import PointCloud
from utils.errors import DataError, RunError

THRESHOLD = DensifyThresholds(
    rule="threshold", interval=10, from_iter=0, until_iter=1000, grad_threshold=0.5,
    small_extent=0.1, min_opacity=0.05, max_extent=0.0, opacity_reset_interval=0, cap=0,
)  # fmt: skip
BUDGET = dataclasses.replace(THRESHOLD, rule="budget", until_iter=100, cap=60)


def make_model(n: int = 20) -> GaussianModel:
    """Even rows small (0.05), odd rows large (0.2); all half opaque."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(n, 6, generator=generator)
    model = GaussianModel.from_points(PointCloud(rows[:, :3], rows[:, 3:]), 1, 3, generator)
    large = (torch.arange(n) % 2 == 1)[:, None]
    model.params["log_scales"].data = torch.where(large, 0.2, 0.05).log().repeat(1, 2)
    model.params["opacity_logits"].data.zero_()
    return model


def make_densifier(
    thresholds: DensifyThresholds, n: int = 20, seed: int = 0
) -> tuple[GaussianModel, Densifier]:
    model = make_model(n)
    optimizer = make_optimizer(model, dict.fromkeys(model.params, 1e-3), 1e-15)
    return model, Densifier(model, optimizer, thresholds, seed)


def feed(densifier: Densifier, signal: Tensor) -> None:
    """One view that sees every splat with a gradient of this norm."""
    n = len(densifier.model)
    rows = torch.stack([signal, 0 * signal, 0 * signal], dim=1)
    densifier.observe(torch.ones(n, dtype=torch.int32), rows)


def radii_of(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def test_signal_is_the_mean_norm_over_the_views_that_see_a_splat() -> None:
    model, densifier = make_densifier(THRESHOLD, n=3)
    nothing = [9.0, 9.0, 9.0]
    densifier.observe(radii_of(5, 0, 2), torch.tensor([[3.0, 4.0, 7.0], nothing, [0.0] * 3]))
    densifier.observe(radii_of(1, 0, 2), torch.tensor([[0.0, 1.0, 7.0], nothing, [0.0, 2.0, 0.0]]))
    assert densifier._signal().tolist() == [3.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="3 splats"):
        densifier.observe(radii_of(1, 1, 1, 1), torch.zeros(4, 3))


@pytest.mark.parametrize("rule", [THRESHOLD, BUDGET])
def test_it_listens_as_long_as_an_edit_follows(rule: DensifyThresholds) -> None:
    """Each step alone feeds the densifier, which then runs to its end."""
    for interval, start, until in ((4, 0, 12), (4, 0, 13), (4, 9, 10), (5, 4, 5), (3, 6, 0)):
        t = dataclasses.replace(rule, interval=interval, from_iter=start, until_iter=until)
        for iteration in range(1, 16):
            model, densifier = make_densifier(t)
            feed(densifier, torch.ones(20))
            for later in range(iteration, 16):
                densifier.step(later)
            assert densifier.listens(iteration) == (len(model) != 20), (t, iteration)


def test_clone_copies_every_attribute() -> None:
    model = make_model()
    mask = torch.arange(20) < 3
    copies = clone(model, mask)
    assert set(copies) == set(PARAMETER_NAMES)
    assert all(torch.equal(copies[n], model.params[n][:3]) for n in PARAMETER_NAMES)


def test_split_keeps_the_disc() -> None:
    """Children lie in the parent's plane, follow its distribution, shrink, and copy the rest."""
    model = make_model(2)
    model.params["log_scales"].data[0] = torch.tensor([0.3, 0.05]).log()
    many = model.subset(torch.zeros(20_000, dtype=torch.long))  # 20 000 times the first splat
    mask = torch.ones(20_000, dtype=torch.bool)
    children = split_within(many, mask, torch.Generator().manual_seed(0))
    assert {len(v) for v in children.values()} == {40_000}
    offset = children["means"] - model.means[0].detach()
    assert float((offset @ model.normals()[0].detach()).abs().max()) < 1e-6
    local = offset @ model.axes()[0].detach()
    torch.testing.assert_close(local.std(dim=0), torch.tensor([0.3, 0.05]), rtol=0.02, atol=0)
    assert float((local.mean(dim=0) / local.std(dim=0)).abs().max()) < 0.02
    torch.testing.assert_close(
        children["log_scales"].exp() * SPLIT_SHRINK, many.scales.detach().repeat(2, 1)
    )
    for name in set(PARAMETER_NAMES) - {"means", "log_scales"}:
        assert torch.equal(children[name], many.params[name].detach().repeat_interleave(2, 0))


def test_split_keeps_the_ellipsoid() -> None:
    """The covariance of the children's centres is the parent's, R diag(s^2) R^T; they shrink."""
    scales = torch.tensor([0.3, 0.05, 0.12])
    model = make_model(1)
    model.params["log_scales"] = torch.nn.Parameter(scales.log()[None])
    many = model.subset(torch.zeros(20_000, dtype=torch.long))
    mask = torch.ones(20_000, dtype=torch.bool)
    children = split_within(many, mask, torch.Generator().manual_seed(0))
    offset = children["means"] - model.means[0].detach()
    w, x, y, z = model.rotations[0].tolist()
    turn = Rotation.from_quat([x, y, z, w]).as_matrix()
    expected = torch.from_numpy(turn @ np.diag(scales.double() ** 2) @ turn.T).float()
    torch.testing.assert_close(offset.T @ offset / 40_000, expected, rtol=0, atol=0.002)
    torch.testing.assert_close(
        children["log_scales"].exp() * SPLIT_SHRINK, scales.expand(40_000, 3)
    )


def test_threshold_rule_clones_small_and_splits_large() -> None:
    model, densifier = make_densifier(THRESHOLD)
    before = {n: p.detach().clone() for n, p in model.params.items()}
    feed(densifier, torch.where(torch.arange(20) < 6, 0.5, 0.4))  # rows 0..5: the limit counts
    counts = densifier.step(10)
    assert dataclasses.astuple(counts) == (3, 3, 0, False, 26)
    stayed = torch.tensor([i for i in range(20) if i not in (1, 3, 5)])
    for name in PARAMETER_NAMES:
        assert torch.equal(model.params[name][:17], before[name][stayed])
        assert torch.equal(model.params[name][17:20], before[name][[0, 2, 4]])
    torch.testing.assert_close(
        model.params["instance"][20:].detach(), before["instance"][[1, 3, 5, 1, 3, 5]]
    )
    assert (densifier.gradient_sum == 0).all() and len(densifier.view_count) == 26


def test_nothing_happens_out_of_season() -> None:
    t = dataclasses.replace(THRESHOLD, from_iter=10, until_iter=30, opacity_reset_interval=30)
    for iteration, due in ((5, False), (10, False), (20, True), (25, False), (30, False)):
        model, densifier = make_densifier(t)
        feed(densifier, torch.ones(20))
        assert (densifier.step(iteration).total != 20) == due, iteration


def test_faint_splats_are_pruned_with_their_moments() -> None:
    model, densifier = make_densifier(THRESHOLD)
    model.params["opacity_logits"].data[::4] = math.log(0.049 / 0.951)
    model.params["opacity_logits"].data[1] = math.log(0.051 / 0.949)
    feed(densifier, torch.zeros(20))
    assert densifier.step(10).pruned == 5 and len(model) == 15
    assert float(model.opacities.detach().min()) == pytest.approx(0.051, rel=1e-4)


def test_outrageous_splats_go_only_after_a_reset() -> None:
    t = dataclasses.replace(THRESHOLD, max_extent=0.15, opacity_reset_interval=20)
    for iteration, pruned in ((20, 0), (30, 10)):
        _, densifier = make_densifier(t)
        feed(densifier, torch.zeros(20))
        assert densifier.step(iteration).pruned == pruned


@pytest.mark.fault(row=36)
def test_all_pruned_is_a_run_error_that_says_what_to_do() -> None:
    model, densifier = make_densifier(THRESHOLD)
    model.params["opacity_logits"].data.fill_(-9)
    feed(densifier, torch.zeros(20))
    with pytest.raises(RunError, match="all 20 splats .* iteration 10: lower --opacity_cull"):
        densifier.step(10)


def test_opacity_reset_lowers_and_forgets() -> None:
    t = dataclasses.replace(THRESHOLD, opacity_reset_interval=15)
    model, densifier = make_densifier(t)
    model.params["opacity_logits"].data[0] = -7.0
    model.opacities.sum().backward()
    densifier.optimizer.step()
    first = float(model.opacities.detach()[0])
    assert densifier.step(15).reset and not densifier.step(16).reset
    assert float(model.opacities.detach()[0]) == pytest.approx(first)
    torch.testing.assert_close(model.opacities[1:], torch.full((19, 1), RESET_OPACITY))
    state = densifier.optimizer.state[model.params["opacity_logits"]]
    assert (state["exp_avg"] == 0).all()
    reset_opacity(model, None)  # also without an optimizer


def test_budget_grows_linearly_to_the_cap_and_stops() -> None:
    model, densifier = make_densifier(BUDGET)
    generator = torch.Generator().manual_seed(3)
    totals = []
    for iteration in range(1, 131):
        feed(densifier, torch.rand(len(model), generator=generator) + 0.01)
        counts = densifier.step(iteration)
        if iteration % 10 == 0:
            totals.append(counts.total)
    assert totals == [24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 60, 60, 60]


def test_budget_takes_the_strongest_and_refills_what_it_pruned() -> None:
    model, densifier = make_densifier(BUDGET)
    before = model.means.detach().clone()
    model.params["opacity_logits"].data[18:] = -9
    signal = torch.arange(20.0)
    signal[18:] = 100.0  # strong but faint: pruned first, and never multiplied
    feed(densifier, signal)
    counts = densifier.step(10)
    assert (counts.pruned, counts.total) == (2, 24) and counts.cloned + counts.split == 6
    doubled = [i for i in range(18) if (model.means == before[i]).all(dim=1).sum() != 1]
    assert doubled == list(range(12, 18))


def test_budget_does_not_multiply_what_nobody_saw() -> None:
    model, densifier = make_densifier(BUDGET)
    radii = (torch.arange(20) < 2).int()
    densifier.observe(radii, torch.ones(20, 3))
    assert densifier.step(10).total == 22


def test_budget_below_the_start_adds_nothing() -> None:
    model, densifier = make_densifier(dataclasses.replace(BUDGET, cap=10))
    feed(densifier, torch.ones(20))
    assert densifier.step(50).total == 20


@pytest.mark.parametrize("thresholds", [THRESHOLD, BUDGET])
def test_same_seed_same_children_other_seed_others(thresholds: DensifyThresholds) -> None:
    results = []
    for seed in (0, 0, 1):
        model, densifier = make_densifier(thresholds, seed=seed)
        feed(densifier, torch.linspace(0, 1, 20))
        densifier.step(10)
        results.append(model.means.detach())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_state_carries_the_edits_of_a_resumed_run() -> None:
    model, densifier = make_densifier(BUDGET)
    feed(densifier, torch.linspace(0, 1, 20))
    densifier.step(10)
    feed(densifier, torch.linspace(1, 0, len(model)))
    copy = GaussianModel.from_state_dict(model.state_dict())
    optimizer = make_optimizer(copy, dict.fromkeys(copy.params, 1e-3), 1e-15)
    resumed = Densifier(copy, optimizer, BUDGET, 0)
    resumed.load_state_dict(densifier.state_dict())
    assert densifier.step(20) == resumed.step(20)
    assert all(torch.equal(model.params[n], copy.params[n]) for n in PARAMETER_NAMES)
    edit_rows(copy, None, torch.arange(len(copy)) < 3)
    with pytest.raises(DataError, match="do not belong"):
        resumed.load_state_dict(densifier.state_dict())


@pytest.mark.parametrize(
    "wrong", [{"rule": "magic"}, {"interval": 0}, {"rule": "budget", "cap": 0}]
)
def test_impossible_thresholds_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"rule|interval"):
        dataclasses.replace(THRESHOLD, **wrong)
