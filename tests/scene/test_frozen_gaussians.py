# SPDX-License-Identifier: Apache-2.0
"""Frozen splats give what the model gives, make it once, and follow a move."""

from __future__ import annotations

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
