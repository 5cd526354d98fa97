# SPDX-License-Identifier: Apache-2.0
"""Losses against slow formulas in float64, their gradients, and their extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from iqgs.methods.iqgs.losses import (
    DICE_SMOOTHING,
    OVERLAP_EPSILON,
    dice_loss,
    focal_loss,
    neighbor_loss,
    overlap_loss,
    pairwise_dice,
    pairwise_focal,
)

ALPHAS = [None, 0.25]
GAMMAS = [0.0, 1.0, 2.0]


def random_case(queries: int = 4, pixels: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(queries, pixels, generator=generator, dtype=torch.float64) * 3
    return logits, torch.rand(queries, pixels, generator=generator) < 0.4


def slow_focal(logits: list[float], mask: list[bool], gamma: float, alpha: float | None) -> float:
    total = 0.0
    for x, inside in zip(logits, mask, strict=True):
        p = 1 / (1 + math.exp(-x))
        p_true = p if inside else 1 - p
        balance = 1.0 if alpha is None else (alpha if inside else 1 - alpha)
        total += -balance * (1 - p_true) ** gamma * math.log(p_true)
    return total / len(logits)


def slow_dice(logits: list[float], mask: list[bool]) -> float:
    p = [1 / (1 + math.exp(-x)) for x in logits]
    overlap = sum(a for a, inside in zip(p, mask, strict=True) if inside)
    return 1 - (2 * overlap + DICE_SMOOTHING) / (sum(p) + sum(mask) + DICE_SMOOTHING)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_is_the_formula(gamma: float, alpha: float | None) -> None:
    logits, masks = random_case()
    rows = zip(logits.tolist(), masks.tolist(), strict=True)
    expected = [slow_focal(x, m, gamma, alpha) for x, m in rows]
    actual = focal_loss(logits, masks, gamma, alpha)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_dice_is_the_formula() -> None:
    logits, masks = random_case()
    expected = [slow_dice(x, m) for x, m in zip(logits.tolist(), masks.tolist(), strict=True)]
    torch.testing.assert_close(
        dice_loss(logits, masks), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_pairwise_holds_the_elementwise_loss_of_every_pair(
    gamma: float, alpha: float | None
) -> None:
    logits, masks = random_case()
    focal, dice = pairwise_focal(logits, masks, gamma, alpha), pairwise_dice(logits, masks)
    torch.testing.assert_close(focal.diagonal(), focal_loss(logits, masks, gamma, alpha))
    torch.testing.assert_close(dice.diagonal(), dice_loss(logits, masks))
    for shift in range(1, len(masks)):
        rolled = masks.roll(-shift, 0)
        rows = torch.arange(len(masks))
        columns = (rows + shift) % len(masks)
        torch.testing.assert_close(focal[rows, columns], focal_loss(logits, rolled, gamma, alpha))
        torch.testing.assert_close(dice[rows, columns], dice_loss(logits, rolled))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_perfect_query_is_the_minimum_of_its_row_and_column(alpha: float | None) -> None:
    masks = torch.eye(5, dtype=torch.bool).repeat_interleave(6, dim=1)
    logits = torch.where(masks, 8.0, -8.0)
    for cost in (pairwise_focal(logits, masks, 2.0, alpha), pairwise_dice(logits, masks)):
        assert cost.argmin(0).tolist() == list(range(5))
        assert cost.argmin(1).tolist() == list(range(5))
        assert (cost.diagonal() >= -1e-6).all()  # a difference of sums, so not exactly 0


@pytest.mark.parametrize("alpha", [-1, -1.0, 1.5])
def test_an_alpha_that_is_no_share_is_refused(alpha: float) -> None:
    logits, masks = random_case()
    for function in (focal_loss, pairwise_focal):
        with pytest.raises(ValueError, match="alpha"):
            function(logits, masks, 2.0, alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradients_of_image_losses(gamma: float, alpha: float | None) -> None:
    logits, masks = random_case()
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, masks, gamma, alpha), (logits,))
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, masks), (logits,))


def test_gradients_of_scene_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 6, 3, generator=generator, dtype=torch.float64)
    p.requires_grad_(True)
    q.requires_grad_(True)
    assert torch.autograd.gradcheck(overlap_loss, (p, q))
    assert torch.autograd.gradcheck(neighbor_loss, (p, q))


@pytest.mark.parametrize("size", [30.0, 200.0, 1e4])
def test_huge_logits_stay_finite_and_keep_a_gradient_where_wrong(size: float) -> None:
    logits = torch.tensor([[size, -size, size, -size]], requires_grad=True)
    masks = torch.tensor([[True, True, False, False]])
    loss = focal_loss(logits, masks, 2.0, None) + dice_loss(logits, masks)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 1] < -0.1  # an object pixel that was denied
    assert logits.grad[0, 2] > 0.1  # a foreign pixel that was claimed
    right = focal_loss(torch.tensor([[size, -size]]), torch.tensor([[True, False]]), 2.0, None)
    assert 0 <= float(right) < 1e-12


def test_overlap_is_zero_for_equal_soft_masks_and_one_for_apart() -> None:
    soft = torch.full((8, 2), 0.3)
    torch.testing.assert_close(overlap_loss(soft, soft), torch.zeros(2), atol=1e-6, rtol=0)
    left = torch.zeros(8, 1)
    left[:4] = 1.0
    assert float(overlap_loss(left, 1 - left)) > 0.999
    p, q = torch.rand(2, 5, 1, dtype=torch.float64)
    slow = 1 - (2 * sum(p * q) + OVERLAP_EPSILON) / (sum(p * p) + sum(q * q) + OVERLAP_EPSILON)
    torch.testing.assert_close(overlap_loss(p, q), slow)


def test_neighbor_loss_is_a_mean_over_pairs_of_a_sum_over_channels() -> None:
    first, second = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    assert float(neighbor_loss(first, second)) == pytest.approx((1 + 4 + 9) / 2)
    assert float(neighbor_loss(torch.zeros(0, 3), torch.zeros(0, 3))) == 0.0
