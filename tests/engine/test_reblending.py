# SPDX-License-Identifier: Apache-2.0
"""Stored weights under other opacities are those that the rasterizer gives with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights
from gaussian_renderer import splat, view_quads, view_weights
from iqgs.engine.lifting.reblending import Reblended, reblended
from iqgs.engine.lifting.weight_cache import fit_view, sample_pixels
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel

SPLATS, WIDTH, HEIGHT = 12, 24, 16


@pytest.fixture
def camera() -> Camera:
    return Camera(
        name="view",
        width=WIDTH,
        height=HEIGHT,
        fx=24.0,
        fy=24.0,
        cx=WIDTH / 2,
        cy=HEIGHT / 2,
        world_to_view=torch.eye(4, dtype=torch.float64),
        uid=0,
    )


@pytest.fixture
def splats() -> GaussianModel:
    """Large discs behind each other: what one covers of a pixel is never below what counts."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    values = {
        "means": normal(SPLATS, 3) * torch.tensor([0.8, 0.5, 0.6]) + torch.tensor([0.0, 0.0, 4.0]),
        "log_scales": normal(SPLATS, 2) * 0.2 + 1.8,
        "quaternions": torch.tensor([[1.0, 0.0, 0.0, 0.0]]) + 0.15 * normal(SPLATS, 4),
        "opacity_logits": 0.5 * normal(SPLATS, 1) - 1.5,
        "sh_dc": normal(SPLATS, 1, 3),
        "sh_rest": torch.zeros(SPLATS, 0, 3),
        "instance": normal(SPLATS, 3),
    }
    return GaussianModel(values)


def logits_after(splats: GaussianModel) -> Tensor:
    """Other opacities, some of them twice, some a half."""
    shift = torch.randn(SPLATS, 1, generator=torch.Generator().manual_seed(5))
    return (splats.params["opacity_logits"].detach() + shift).clamp_max(0.0)


def with_logits(splats: GaussianModel, logits: Tensor) -> GaussianModel:
    return GaussianModel(
        {**{n: p.detach() for n, p in splats.params.items()}, "opacity_logits": logits}
    )


def test_other_opacities_give_the_weights_of_the_rasterizer(
    camera: Camera, splats: GaussianModel
) -> None:
    before, logits = view_weights(camera, splats), logits_after(splats)
    after = view_weights(camera, with_logits(splats, logits))
    assert before.splat.tolist() == after.splat.tolist()  # nothing is so opaque that it hides
    ratio = torch.sigmoid(logits) / splats.opacities.detach()
    assert float(ratio.min()) < 0.6 and float(ratio.max()) > 1.8
    found = reblended(before, ratio[:, 0])
    torch.testing.assert_close(found, after.weight, atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(
        reblended(before, torch.ones(SPLATS)), before.weight, atol=1e-6, rtol=1e-5
    )


def test_gradients_of_opacities_and_values_are_those_of_the_rasterizer(
    camera: Camera, splats: GaussianModel
) -> None:
    logits = logits_after(splats)
    model = with_logits(splats, logits)
    upstream = torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    image = splat(camera, model, model.instance, detach_geometry=False)
    wanted = torch.autograd.grad(image, [model.instance, model.params["opacity_logits"]], upstream)

    quads = fit_view(view_quads(camera, splats), float("inf"), seed=0)
    pixels = sample_pixels(quads, 0, torch.Generator()).listed()
    values, now = splats.instance.detach().clone(), logits.clone().requires_grad_()
    values.requires_grad_()
    old = splats.params["opacity_logits"].detach()[pixels.touched]
    blended = Reblended.of(pixels, old, now[pixels.touched])
    found_image = blended.splat(values[pixels.touched])
    flat = upstream.flatten(1).T[pixels.pixels]
    found = torch.autograd.grad(found_image, [values, now], flat)
    # Half-precision weights stand behind the one, float32 behind the other.
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-3 * float(theirs.abs().max()), rtol=2e-2)
    still = blended.splat_still(values[pixels.touched])
    torch.testing.assert_close(still, found_image)
    assert torch.autograd.grad(still, now, flat, allow_unused=True) == (None,)
    torch.testing.assert_close(
        blended.alpha, splat(camera, model, torch.ones(SPLATS, 1)).flatten()[pixels.pixels],
        atol=2e-3, rtol=0.0,
    )  # fmt: skip


def test_nothing_covers_more_than_all_of_a_pixel() -> None:
    """Two splats in one pixel, and none in the next: by hand."""
    weights = BlendWeights(
        torch.tensor([0, 2, 2]),
        torch.tensor([1, 0], dtype=torch.int32),
        torch.tensor([0.5, 0.25]),
        2,
    )
    found = reblended(weights, torch.tensor([1.0, 1.6]))  # a' = 0.8, then 0.5
    torch.testing.assert_close(found, torch.tensor([0.8, 0.1]))
    ratio = torch.tensor([4.0, 8.0], requires_grad=True)
    found = reblended(weights, ratio)  # both cut off at 0.99
    torch.testing.assert_close(found, torch.tensor([0.99, 0.0099]))
    (gradient,) = torch.autograd.grad(found.sum(), ratio)
    assert gradient.tolist() == [0.0, 0.0]
