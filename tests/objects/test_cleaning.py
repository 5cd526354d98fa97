# SPDX-License-Identifier: Apache-2.0
"""Cut splats, hidden splats, and what they do to objects alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from iqgs.objects.cleaning import (
    HALF_LENGTH,
    HALF_OPACITY,
    HALF_STEP,
    Cleaning,
    apply_cleaning,
    cut_in_two,
    decide,
    mixed_splats,
    pixels_alone,
)
from scene.gaussian_model import GaussianModel
from utils.image_quality import psnr

from .figures import RENDERER, ball, ball_in_ring, camera, labelled, wall


def one_splat(scales: tuple[float, ...], opacity: float, at: tuple[float, ...]) -> GaussianModel:
    generator = torch.Generator().manual_seed(3)
    return GaussianModel(
        {
            "means": torch.tensor([at]),
            "log_scales": torch.tensor([scales]).log(),
            "quaternions": torch.randn(1, 4, generator=generator),
            "opacity_logits": torch.tensor([[opacity]]).logit(),
            "sh_dc": torch.zeros(1, 1, 3),
            "sh_rest": torch.zeros(1, 0, 3),
            "instance": torch.zeros(1, 0),
        }
    )


@pytest.mark.parametrize("scales", [(0.1, 0.3), (0.3, 0.1), (0.1, 0.4, 0.2)])
def test_two_halves_have_mean_and_covariance_of_the_whole(scales: tuple[float, ...]) -> None:
    whole = one_splat(scales, 0.5, (1.0, 2.0, 3.0))
    halves, source = cut_in_two(whole, torch.tensor([0]))
    assert len(halves) == 2 and source.tolist() == [0, 0]

    def moments(splats: GaussianModel) -> tuple[torch.Tensor, torch.Tensor]:
        shape = splats.axes() * splats.scales[:, None, :]
        each = shape @ shape.mT + splats.means[:, :, None] * splats.means[:, None, :]
        mean = splats.means.mean(dim=0)
        return mean, each.mean(dim=0) - mean[:, None] * mean[None, :]

    for one, two in zip(moments(whole), moments(halves), strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_the_opacity_of_halves_fits_the_whole_best() -> None:
    x = np.linspace(-6, 6, 4001)
    whole = np.exp(-(x**2) / 2)
    halves = sum(np.exp(-(((x + s * HALF_STEP) / HALF_LENGTH) ** 2) / 2) for s in (-1, 1))
    error = [
        float(((whole - f * halves) ** 2).sum()) for f in (0.99, 1.0, 1.01) * np.array(HALF_OPACITY)
    ]
    assert error[1] < error[0] and error[1] < error[2]
    assert np.sqrt(error[1] / (whole**2).sum()) < 0.02


def test_a_cut_changes_the_picture_little() -> None:
    splats = wall(1.5, 1.4)
    view = camera((0.0, -1.0, 0.3))
    before = RENDERER.lens(view, splats).render(with_surface=False).color
    halves, _ = cut_in_two(splats, torch.arange(0, len(splats), 20))
    after = RENDERER.lens(view, halves).render(with_surface=False).color
    assert 35 < float(psnr(before, after)) < 60
    halved = splats.subset(torch.ones(len(splats), dtype=torch.bool))  # the other way to be wrong
    halved.params["opacity_logits"].data[::20] = 0.0
    worse = RENDERER.lens(view, halved).render(with_surface=False).color
    assert float(psnr(before, worse)) < float(psnr(before, after))


def test_rows_that_are_not_cut_stay_as_they_are() -> None:
    splats = ball((0.0, 0.0, 0.0), 0.3, 50)
    halves, source = cut_in_two(splats, torch.tensor([3, 7]))
    assert len(halves) == 52
    kept = source[:48]
    assert kept.tolist() == [i for i in range(50) if i not in (3, 7)]
    for name, values in splats.params.items():
        assert torch.equal(halves.params[name][:48], values[kept])
        if name not in ("means", "log_scales", "opacity_logits"):
            assert torch.equal(halves.params[name][48:], values[source[48:]])


@pytest.mark.parametrize("scales", [(0.05, 0.15), (0.15, 0.15), (0.1, 0.2, 0.05)])
@pytest.mark.parametrize("at", [(0.0, 0.0, 0.0), (0.5, 0.2, 0.4)])
def test_the_pixels_of_a_splat_alone_are_those_that_are_rendered(
    scales: tuple[float, ...], at: tuple[float, float, float]
) -> None:
    splats = one_splat(scales, 0.6, at)
    view = camera((0.0, -2.6, 1.3), size=256)
    rendered = float(RENDERER.lens(view, splats).alpha.sum())
    # The rasterizer stops where alpha falls below 1/255.
    assert float(pixels_alone(splats, view)) == pytest.approx(rendered, rel=0.05)
    behind = camera((0.0, -2.6, 1.3), target=(0.0, -5.0, 1.3), size=256)
    assert float(pixels_alone(splats, behind)) == 0.0


def test_votes_elect_and_hidden_splats_belong_to_what_hides_them() -> None:
    votes = torch.tensor([[0.0, 9.0, 1.0], [0.0, 0.1, 0.3], [0.0, 0.0, 0.0], [5.0, 4.0, 0.0]])
    alone = torch.tensor([20.0, 40.0, 3.0, 20.0])
    means = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.1, 0.0, 0.0], [9.0, 0.0, 0.0]])
    decision = decide(votes, alone, means)
    assert decision.label.tolist() == [1, 0, 0, 0]
    assert decision.hidden.tolist() == [0, 2, 1, 0]
    assert decision.posterior.tolist() == pytest.approx([10 / 12, 1.3 / 2.4, 1 / 2, 6 / 11])
    assert mixed_splats(votes).tolist() == [1, 3]


def test_a_splat_across_two_objects_is_parted() -> None:
    """A long disc lies half on the left object and half on the right one."""
    splats = one_splat((0.02, 0.4), 0.9, (0.0, 0.0, 0.0))
    splats.params["quaternions"].data[:] = torch.tensor([1.0, 1.0, 0.0, 0.0])  # in the x z plane
    splats.params["log_scales"].data[:] = torch.tensor([[0.4, 0.02]]).log()
    view = camera((0.0, -2.6, 0.0))
    left = (torch.arange(64) < 32).expand(64, 64).reshape(-1)
    share = []
    for _ in range(2):
        weights = RENDERER.lens(view, splats).weights(1 / 255)
        pixel = torch.repeat_interleave(weights.row_start.diff())
        votes = torch.zeros(len(splats), 3)
        side = torch.where(left[pixel], 1, 2)
        votes.index_put_((weights.splat.long(), side), weights.weight, accumulate=True)
        winner, total = votes.amax(dim=1), votes.sum(dim=1)
        share.append(float(winner.sum() / total.sum()))
        splats, _ = cut_in_two(splats, mixed_splats(votes))
    assert share[0] == pytest.approx(0.5, abs=0.02)
    assert share[1] > 0.7


def test_a_cleaning_is_done_again_to_the_bit_and_fits_its_splats_only() -> None:
    objects = ball_in_ring()
    cuts = (torch.tensor([0, 5]), torch.tensor([len(objects) - 1, len(objects)]))
    n = len(objects) + 4
    labels = torch.arange(n) % 3
    cleaning = Cleaning(cuts, labels, torch.full((n,), 0.5), torch.zeros(n, dtype=torch.int64))
    one, two = (apply_cleaning(objects, cleaning) for _ in range(2))
    for name, values in one.splats.params.items():
        assert torch.equal(values, two.splats.params[name])
    assert torch.equal(one.labels, labels) and one.names == objects.names
    with pytest.raises(ValueError, match="labels of"):
        apply_cleaning(one, cleaning)
    with pytest.raises(ValueError, match="cuts row"):
        apply_cleaning(labelled({1: ball((0.0, 0.0, 0.0), 0.3, 3)}), cleaning)
    assert math.isclose(HALF_STEP**2 + HALF_LENGTH**2, 1)
