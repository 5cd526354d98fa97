# SPDX-License-Identifier: Apache-2.0
"""Frozen splats give what the model gives, make it once, and follow a move."""

from __future__ import annotations

from pathlib import Path

import torch

from scene.frozen_gaussians import FrozenGaussians
from scene.gaussian_model import GaussianModel


def make_model() -> GaussianModel:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "means": (7, 3),
        "log_scales": (7, 2),
        "quaternions": (7, 4),
        "opacity_logits": (7, 1),
    }
    shapes |= {"sh_dc": (7, 1, 3), "sh_rest": (7, 3, 3), "instance": (7, 5)}
    values = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return GaussianModel(values, active_sh_degree=1)


def test_activations_are_the_models_and_made_once() -> None:
    model = make_model()
    frozen = FrozenGaussians(model)
    for name in ("means", "scales", "rotations", "opacities", "sh", "instance", "kind"):
        ours, theirs = getattr(frozen, name), getattr(model, name)
        assert ours == theirs if name == "kind" else torch.equal(ours, theirs)
    assert frozen.scales is frozen.scales and model.scales is not model.scales
    assert frozen.means.data_ptr() == model.means.data_ptr()
    assert frozen.active_sh_degree == 1
    assert not any(p.requires_grad for p in frozen.params.values())
    assert all(p.requires_grad for p in model.params.values())


def test_what_was_made_is_forgotten_with_the_parameters() -> None:
    frozen, other = FrozenGaussians(make_model()), make_model()
    before = frozen.opacities
    other.params["opacity_logits"].data += 1
    frozen.load_state_dict(other.state_dict())
    assert torch.equal(frozen.opacities, other.opacities)
    assert not torch.equal(frozen.opacities, before)
    assert frozen.to("cpu") is frozen
    assert not any(p.requires_grad for p in frozen.params.values())
    assert frozen.opacities is not before


def test_opacities_of_instances_stand_in_for_the_colours_and_go_along() -> None:
    plain = make_model()
    assert plain.for_instances() is plain and plain.for_colors() is plain
    logits = torch.linspace(-3, 3, 7)[:, None]
    model = GaussianModel({**plain.params, "instance_opacity_logits": logits}, 1)
    for one in (model, FrozenGaussians(model), GaussianModel.from_state_dict(model.state_dict())):
        assert torch.equal(one.for_instances().opacities, logits.sigmoid())
        assert torch.equal(one.for_colors().opacities, plain.opacities)
        assert torch.equal(one.opacities, plain.opacities)
        for shown in (one.for_instances(), one.for_colors()):
            assert shown.active_sh_degree == 1 and torch.equal(shown.sh, plain.sh)
            assert shown.for_instances() is shown
    frozen = FrozenGaussians(model)
    assert frozen.for_instances() is frozen.for_instances()
    few = model.subset(torch.tensor([6, 2]))
    assert few.params["instance_opacity_logits"].flatten().tolist() == [3.0, -1.0]


def test_a_file_keeps_the_opacities_of_instances(tmp_path: Path) -> None:
    plain, logits = make_model(), torch.linspace(-3, 3, 7)[:, None]
    GaussianModel({**plain.params, "instance_opacity_logits": logits}).save_ply(tmp_path / "a.ply")
    read = GaussianModel.load_ply(tmp_path / "a.ply")
    assert torch.equal(read.params["instance_opacity_logits"], logits)
    assert read.sh_degree == plain.sh_degree
    plain.save_ply(tmp_path / "b.ply")
    assert "instance_opacity_logits" not in GaussianModel.load_ply(tmp_path / "b.ply").params
