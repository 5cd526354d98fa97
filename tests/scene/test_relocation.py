# SPDX-License-Identifier: Apache-2.0
"""Relocation: N splats in the place of one look like it, nothing is lost, faint ones wander."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import comb
from torch import Tensor

from gaussian_renderer import render
from scene.cameras import Camera
from scene.densification import Densifier, DensifyThresholds
from scene.gaussian_model import GaussianModel
from scene.optimizer import make_optimizer
from scene.parameters import PARAMETER_NAMES
from scene.points import PointCloud
from scene.relocation import perturb, relocate, shared
from utils.errors import RunError

F64 = torch.float64


def make_model(opacities: list[float], scale_dims: int = 2, seed: int = 0) -> GaussianModel:
    generator = torch.Generator().manual_seed(seed)
    n = len(opacities)
    rows = torch.rand(n, 6, generator=generator)
    points = PointCloud(rows[:, :3], rows[:, 3:])
    model = GaussianModel.from_points(points, 1, 3, generator, scale_dims=scale_dims)
    model.params["opacity_logits"].data = torch.tensor(opacities).logit()[:, None]
    model.params["log_scales"].data = torch.full((n, scale_dims), 0.2).log()
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logit(value: float) -> float:
    return math.log(value / (1 - value))


@pytest.mark.parametrize("opacity", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("copies", [1, 2, 5, 60])
def test_middle_and_total_of_the_blended_copies_are_those_of_the_one(
    opacity: float, copies: int
) -> None:
    """The plane's integral by quadrature; blending from front to back, one copy after another."""
    logits, factor = shared(torch.tensor([logit(opacity)], dtype=F64), torch.tensor([copies]))
    each, width = float(logits.sigmoid()), float(factor)

    def blended(radius: float) -> float:
        covered, through = 0.0, 1.0
        for _ in range(copies):
            alpha = each * math.exp(-radius * radius / (2 * width * width))
            covered, through = covered + through * alpha, through * (1 - alpha)
        return covered

    assert blended(0.0) == pytest.approx(opacity, rel=1e-9)
    total = quad(lambda r: 2 * math.pi * r * blended(r), 0, 12, epsabs=1e-12, limit=200)[0]
    assert total == pytest.approx(2 * math.pi * opacity, rel=1e-7)


def test_the_opacity_is_the_papers_and_its_line_integral_tells_the_dimensions_apart() -> None:
    """The paper's factor keeps the integral over a line; ours keeps that over the plane. Both are
    the same sum over binomials, with the root of k + 1 or k + 1 itself."""
    opacity, copies = 0.8, 4
    logits, factor = shared(torch.tensor([logit(opacity)], dtype=F64), torch.tensor([copies]))
    each = float(logits.sigmoid())
    assert each == pytest.approx(1 - (1 - opacity) ** (1 / copies), rel=1e-12)

    def binomials(power: float) -> float:
        return sum(
            comb(i - 1, k) * (-1) ** k * each ** (k + 1) / (k + 1) ** power
            for i in range(1, copies + 1)
            for k in range(i)
        )

    assert float(factor) ** 2 == pytest.approx(opacity / binomials(1), rel=1e-10)
    assert opacity / binomials(0.5) < float(factor) < 1  # the paper's shrinks more


def test_extreme_opacities_stay_numbers() -> None:
    logits, factor = shared(torch.tensor([-30.0, 30.0, 90.0]), torch.tensor([7, 7, 7]))
    assert bool(torch.isfinite(logits).all()) and bool(((factor > 0.3) & (factor <= 1)).all())
    assert float(factor[0]) == pytest.approx(1)
    alone = shared(torch.tensor([-3.0, 0.5]), torch.tensor([1, 1]))
    torch.testing.assert_close(alone[0], torch.tensor([-3.0, 0.5]))
    torch.testing.assert_close(alone[1], torch.ones(2))


def view(model: GaussianModel) -> tuple[Tensor, Tensor]:
    """(alpha [H, W], colour) of a model in front of a camera."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 3.0
    camera = Camera(pose, 150.0, 150.0, 48.0, 48.0, 96, 96, "view", uid=0)
    shown = render(camera, model, torch.zeros(3), depth_ratio=None, backend="cpu")
    return shown.alpha[0].detach(), shown.color.detach()


@pytest.mark.parametrize("scale_dims", [2, 3])
@pytest.mark.parametrize(("opacity", "copies"), [(0.9, 2), (0.6, 5), (0.3, 3)])
def test_a_rendered_splat_and_its_relocated_copies_look_alike(
    scale_dims: int, opacity: float, copies: int
) -> None:
    """Total opacity within what the rasterizer's cut-off at 1/255 takes from fainter copies; a
    splat that is copied without correction is far off."""
    one = make_model([opacity], scale_dims)
    one.params["means"].data.zero_()
    rows = torch.tensor([0] * copies)
    many = one.subset(rows)
    many.params["opacity_logits"].data[1:] = logit(0.001)
    many.params["means"].data[1:] += 5.0  # behind the camera's back and elsewhere
    assert relocate(many, None, 0.005, copies, seeded()) == (copies - 1, 0)
    assert len(many) == copies
    naive = one.subset(rows)
    (alpha, color), (found, found_color), (wrong, _) = view(one), view(many), view(naive)
    assert float(alpha.max()) > 0.9 * opacity
    assert float(found.sum()) == pytest.approx(float(alpha.sum()), rel=0.05)
    assert float(found_color.sum()) == pytest.approx(float(color.sum()), rel=0.05)
    assert float(found.max()) == pytest.approx(float(alpha.max()), rel=0.02)
    assert float(wrong.sum()) > 1.25 * float(alpha.sum())


def test_relocation_keeps_the_number_takes_every_attribute_and_forgets_moments() -> None:
    model = make_model([0.5, 0.001, 0.7, 0.002, 0.9, 0.6])
    optimizer = make_optimizer(model, dict.fromkeys(model.params, 1e-3), 1e-15)
    for parameter in model.params.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = {name: p.detach().clone() for name, p in model.params.items()}
    assert relocate(model, optimizer, 0.01, 6, seeded()) == (2, 0)
    assert len(model) == 6
    alive = torch.tensor([0, 2, 4, 5])
    for name in set(PARAMETER_NAMES) - {"opacity_logits", "log_scales"}:
        now = model.params[name].detach()
        assert torch.equal(now[:4], before[name][alive])
        for row in now[4:]:
            assert any(torch.equal(row, old) for old in before[name][alive])
    means = model.params["means"]
    moments = optimizer.state[means]["exp_avg"]
    doubled = [int((model.means[4:] == mean).all(1).any()) for mean in model.means[:4]]
    for row, copied in enumerate(doubled):
        assert bool((moments[row] == 0).all()) == bool(copied)
        changed = model.params["opacity_logits"][row] != before["opacity_logits"][alive[row]]
        assert bool(changed) == bool(copied)
    assert bool((moments[4:] == 0).all())


def test_places_are_drawn_in_proportion_to_opacity() -> None:
    model = make_model([0.1, 0.3, 0.0001, 0.6])
    relocate(model, None, 0.005, 40_004, seeded(3))
    places = [(model.means == mean).all(1).sum().item() - 1 for mean in model.means[:3]]
    np.testing.assert_allclose(np.array(places) / 40_001, [0.1, 0.3, 0.6], atol=0.01)


def test_growth_follows_the_budget_and_the_cap_is_kept() -> None:
    thresholds = DensifyThresholds(
        rule="relocation", interval=10, from_iter=0, until_iter=100, grad_threshold=0.0,
        small_extent=0.1, min_opacity=0.005, max_extent=0.0, opacity_reset_interval=0, cap=60,
    )  # fmt: skip
    model = make_model([0.5] * 18 + [0.001] * 2)
    optimizer = make_optimizer(model, dict.fromkeys(model.params, 1e-3), 1e-15)
    densifier = Densifier(model, optimizer, thresholds, 0)
    first = densifier.step(10)
    assert (first.pruned, first.cloned, first.total) == (2, 4, 24)
    sizes = []
    for iteration in range(11, 141):
        assert len(densifier.gradient_sum) == len(model)
        sizes.append(densifier.step(iteration).total)
    assert sizes[89:] == [60] * 41 and max(sizes) == 60 and sizes == sorted(sizes)


def test_a_model_above_its_cap_loses_nothing_and_a_dead_one_is_one_sentence() -> None:
    model = make_model([0.5] * 6)
    assert relocate(model, None, 0.005, 3, seeded()) == (0, 0) and len(model) == 6
    with pytest.raises(
        RunError, match="all 2 splats have become transparent: lower --opacity_cull"
    ):
        relocate(make_model([0.001, 0.002]), None, 0.005, 10, seeded())


def test_noise_has_the_splats_own_squared_covariance_and_stays_in_its_plane() -> None:
    n = 20_000
    model = make_model([0.004]).subset(torch.zeros(n, dtype=torch.long))
    model.params["log_scales"].data = torch.tensor([0.3, 0.1]).log().repeat(n, 1)
    before = model.means.detach().clone()
    perturb(model, 2.0, seeded())
    moved = model.means.detach() - before
    assert float((moved @ model.normals()[0].detach()).abs().max()) < 1e-6
    gate = 1 / (1 + math.exp(100 * (0.004 - 0.005)))
    along = (moved @ model.axes()[0].detach()).std(0)
    expected = 2.0 * gate * torch.tensor([0.3, 0.1]).square()
    torch.testing.assert_close(along, expected, rtol=0.03, atol=0)


def test_opaque_splats_rest_and_the_noise_scales_with_the_world() -> None:
    model = make_model([0.004, 0.05, 0.5])
    before = model.means.detach().clone()
    perturb(model, 1.0, seeded())
    moved = (model.means.detach() - before).norm(dim=1)
    assert float(moved[2]) == 0 and 0 < float(moved[1]) < 0.1 * float(moved[0])
    larger = make_model([0.004, 0.05, 0.5])
    larger.params["log_scales"].data += math.log(10)
    perturb(larger, 1.0 / 10, seeded())  # strength is in 1 / world units
    torch.testing.assert_close(
        (larger.means.detach() - before).norm(dim=1), 10 * moved, rtol=1e-3, atol=1e-6
    )
