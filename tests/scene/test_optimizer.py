# SPDX-License-Identifier: Apache-2.0
"""Surgery on Adam, judged by the equations of Adam written out per row."""

from __future__ import annotations

from copy import deepcopy as copy_of

import pytest
import torch
from torch import Tensor

from scene.gaussian_model import GaussianModel
from scene.optimizer import edit_rows, make_optimizer, replace_values, set_rates
from scene.parameters import PARAMETER_NAMES
from scene.points import PointCloud

RATE, EPS = 1e-2, 1e-15


def make_model(n: int = 12, sh_degree: int = 1) -> GaussianModel:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(n, 6, generator=generator)
    points = PointCloud(rows[:, :3], rows[:, 3:])
    return GaussianModel.from_points(points, sh_degree, 3, generator)


def make_pair(**kwargs: int) -> tuple[GaussianModel, torch.optim.Adam]:
    model = make_model(**kwargs)
    return model, make_optimizer(model, dict.fromkeys(model.params, RATE), EPS)


def train(model: GaussianModel, optimizer: torch.optim.Adam, steps: int, start: int = 0) -> None:
    """Steps whose gradient of every entry depends only on its value and the step."""
    for step in range(start, start + steps):
        loss = sum(((p + 0.1 * step).sin() * p).sum() for p in model.params.values())
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def snapshot(model: GaussianModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.params.items()}


def test_groups_carry_names_and_rates() -> None:
    model = make_model()
    rates = {"means": 1e-3, "instance": 2e-2}
    optimizer = make_optimizer(model, rates, EPS)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == rates
    assert all(g["eps"] == EPS for g in optimizer.param_groups)
    set_rates(optimizer, {"means": 5e-4, "sh_dc": 1.0})
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {"means": 5e-4, "instance": 2e-2}
    with pytest.raises(ValueError, match="rates for some of"):
        make_optimizer(model, {"colour": 1.0}, EPS)


def test_one_step_is_adams_equation() -> None:
    model, optimizer = make_pair()
    before = snapshot(model)
    train(model, optimizer, 1, start=1)
    for name, p in before.items():
        v = p.clone().requires_grad_()
        ((v + 0.1).sin() * v).sum().backward()
        assert v.grad is not None
        expected = p - RATE * v.grad / (v.grad.abs() + EPS)  # bias-corrected moments of step one
        torch.testing.assert_close(model.params[name].detach(), expected)


def test_kept_rows_go_on_as_if_untouched() -> None:
    model, optimizer = make_pair()
    whole, whole_optimizer = make_pair()
    train(model, optimizer, 3)
    train(whole, whole_optimizer, 3)
    keep = torch.arange(12) % 3 != 0
    added = {n: p.detach()[:2] + 1 for n, p in model.params.items()}
    edit_rows(model, optimizer, keep, added)
    assert len(model) == 10
    train(model, optimizer, 4, start=3)
    train(whole, whole_optimizer, 4, start=3)
    for name in PARAMETER_NAMES:
        torch.testing.assert_close(
            model.params[name][:8], whole.params[name][keep], rtol=1e-6, atol=1e-7
        )
        assert not torch.equal(model.params[name][8:], added[name])  # the new rows learn too


def test_moments_follow_their_rows() -> None:
    model, optimizer = make_pair()
    train(model, optimizer, 2)
    moments = {n: optimizer.state[p]["exp_avg"].clone() for n, p in model.params.items()}
    step = float(optimizer.state[model.params["means"]]["step"])
    order = torch.tensor([7, 2, 5])
    edit_rows(model, optimizer, order, {n: p.detach()[:1] for n, p in model.params.items()})
    for name, p in model.params.items():
        state = optimizer.state[p]
        assert torch.equal(state["exp_avg"][:3], moments[name][order])
        assert (state["exp_avg"][3:] == 0).all() and (state["exp_avg_sq"][3:] == 0).all()
        assert state["exp_avg_sq"].shape == p.shape and float(state["step"]) == step
    assert len(optimizer.state) == len(PARAMETER_NAMES)  # no state of the old parameters is left
    held = [p for g in optimizer.param_groups for p in g["params"]]
    assert all(a is b for a, b in zip(held, model.params.values(), strict=True))


def test_edit_before_the_first_step_and_without_optimizer() -> None:
    model, optimizer = make_pair()
    edit_rows(model, optimizer, torch.arange(12) < 5)
    train(model, optimizer, 1)
    assert len(model) == 5
    before = snapshot(model)
    edit_rows(model, None, append=before)
    assert torch.equal(model.means, torch.cat([before["means"]] * 2))
    assert all(p.requires_grad and p.grad is None for p in model.params.values())


def test_parameters_outside_the_optimizer_are_edited_too() -> None:
    model = make_model()
    optimizer = make_optimizer(model, {"means": RATE}, EPS)
    edit_rows(model, optimizer, torch.arange(12) < 4)
    assert {len(p) for p in model.params.values()} == {4}


def test_append_needs_every_parameter() -> None:
    model, optimizer = make_pair()
    with pytest.raises(ValueError, match="append needs all"):
        edit_rows(model, optimizer, append={"means": torch.zeros(1, 3)})
    assert len(model) == 12


def test_replaced_values_forget_their_moments_only() -> None:
    model, optimizer = make_pair()
    train(model, optimizer, 2)
    other = optimizer.state[model.params["means"]]["exp_avg"].clone()
    replace_values(model, optimizer, "opacity_logits", torch.full((12, 1), -4.0))
    state = optimizer.state[model.params["opacity_logits"]]
    assert (model.params["opacity_logits"] == -4).all() and model.opacities.requires_grad
    assert (state["exp_avg"] == 0).all() and (state["exp_avg_sq"] == 0).all()
    assert float(state["step"]) == 2
    assert torch.equal(optimizer.state[model.params["means"]]["exp_avg"], other)
    with pytest.raises(ValueError, match="opacity_logits: expected"):
        replace_values(model, optimizer, "opacity_logits", torch.zeros(3, 1))


def test_saved_optimizer_resumes_bit_for_bit() -> None:
    model, optimizer = make_pair()
    train(model, optimizer, 2)
    edit_rows(model, optimizer, torch.arange(12) < 9)
    copy = GaussianModel.from_state_dict(model.state_dict())
    resumed = make_optimizer(copy, dict.fromkeys(copy.params, 0.5), EPS)
    resumed.load_state_dict(copy_of(optimizer.state_dict()))  # it shares what it is given
    train(model, optimizer, 3, start=2)
    train(copy, resumed, 3, start=2)
    assert all(torch.equal(model.params[n], copy.params[n]) for n in PARAMETER_NAMES)


def test_falls_back_where_fused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import utils.adam as module

    real = module.Adam

    def refusing(*args: object, fused: bool = False, **kwargs: object) -> module.Adam:
        if fused:
            raise RuntimeError("`fused=True` requires ...")
        return real(*args, **kwargs)

    fused_model, fused = make_pair(sh_degree=0)
    monkeypatch.setattr(module, "Adam", refusing)
    plain_model, plain = make_pair(sh_degree=0)
    train(fused_model, fused, 3)
    train(plain_model, plain, 3)
    assert not plain.defaults["fused"]
    for name in PARAMETER_NAMES:
        torch.testing.assert_close(fused_model.params[name], plain_model.params[name])
