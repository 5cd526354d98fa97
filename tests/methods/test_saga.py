# SPDX-License-Identifier: Apache-2.0
"""SAGA's scales, identities and losses against numbers worked out by hand from its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from iqgs.methods.saga.losses import (
    choose_pairs,
    contrastive_loss,
    memberships,
    norm_loss,
    pair_weights,
    same_identity,
    sampled_scales,
)
from iqgs.methods.saga.scales import eroded, extents, quantile
from scene.masks import MaskPatches

T, F = True, False


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_extent_of_a_mask_is_twice_the_spread_of_its_points() -> None:
    """A mask of 5 x 4 pixels loses its border and keeps 3 x 2 of them, x = 1, 2, 3 and y = 1, 2.

    On a plane (x, 2 y, 7): std x = sqrt(2/3), std y = 2 * 1/2, std z = 0.
    """
    label_map = torch.zeros(6, 7, dtype=torch.int32)
    label_map[:4, :5] = 1  # at the picture's border nothing is lost
    label_map = label_map.roll((1, 1), (0, 1))
    masks = MaskPatches.from_label_map(label_map.numpy())
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    points = torch.stack([x, 2 * y, torch.full_like(x, 7.0)])
    found = extents(points, torch.ones(6, 7, dtype=torch.bool), masks)
    assert found.tolist() == pytest.approx([2 * math.sqrt(2 / 3 + 1)])


def test_masks_that_are_too_thin_keep_their_border_and_unseen_ones_have_no_extent() -> None:
    label_map = torch.tensor([[1, 1, 1, 0, 2, 2]], dtype=torch.int32)
    label_map = torch.cat([torch.zeros_like(label_map), label_map, torch.zeros_like(label_map)])
    masks = MaskPatches.from_label_map(label_map.numpy())
    points = torch.zeros(3, 3, 6)
    points[0] = torch.arange(6.0)
    solid = torch.ones(3, 6, dtype=torch.bool)
    solid[:, 4:] = False
    found = extents(points, solid, masks)
    assert found[0].item() == pytest.approx(2 * math.sqrt(2 / 3)) and math.isnan(found[1])


def test_extents_that_the_masks_bring_along_are_kept() -> None:
    masks = MaskPatches.from_label_map(torch.ones(4, 4, dtype=torch.int32).numpy())
    masks.scale[0] = 0.25
    assert extents(torch.rand(3, 4, 4), torch.ones(4, 4, dtype=torch.bool), masks).item() == 0.25


def test_erosion_takes_diagonal_neighbors_too() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0, 0] = False
    left = eroded(mask)
    assert not left[:2, :2].any() and int(left.sum()) == 12


def test_quantiles_are_places_among_all_scales() -> None:
    ordered = torch.tensor([1.0, 2.0, 2.0, 4.0, 8.0])
    wanted = {
        0.5: 0.0,
        1.0: 0.0,
        1.5: 0.125,
        2.0: 0.375,
        3.0: 0.625,
        6.0: 0.875,
        8.0: 1.0,
        99.0: 1.0,
    }
    found = quantile(torch.tensor(list(wanted)), ordered)
    assert found.tolist() == pytest.approx(list(wanted.values()))
    assert quantile(torch.tensor([3.0]), torch.tensor([2.0])).tolist() == [0.5]


def test_scales_of_a_step_lie_between_the_masks_own() -> None:
    scales = torch.tensor([4.0, 1.0, 2.0, 2.0, 9.0])
    seen = [sampled_scales(scales, 8, dice(seed)) for seed in range(30)]
    for found in seen:
        *moved, above, smallest = found.tolist()
        assert above == 18.0 and smallest == 1.0
        one, two, four, nine = sorted(moved)
        assert one == 1.0 and 1 <= two <= 2 <= four <= 4 <= nine <= 9
    assert len({tuple(found.tolist()) for found in seen}) == 30
    assert len(sampled_scales(scales, 2, dice())) == 4


def nested() -> tuple[Tensor, Tensor]:
    """Patches: lid, pot without its lid, table without the pot, wall. Masks: table, lid, pot,
    wall, each with what stands on it; extents 8, 1, 2, 9."""
    members = torch.tensor([[T, T, T, F], [T, F, T, F], [T, F, F, F], [F, F, F, T]])
    return members, torch.tensor([8.0, 1.0, 2.0, 9.0])


def test_masks_above_the_scale_give_way_to_smaller_ones_above_it() -> None:
    members, extent = nested()
    found = memberships(members, extent, torch.tensor([20.0, 8.0, 2.0, 0.5]))
    assert torch.equal(found[0], members)  # all are below: parts belong to their wholes
    assert torch.equal(found[1], members)  # the table is at the scale, nothing there is smaller
    # Pot and table are at or above 2; where both are, the pot alone counts. The lid is below.
    assert found[2].tolist() == [[F, T, T, F], [F, F, T, F], [T, F, F, F], [F, F, F, T]]
    assert found[3].tolist() == [[F, T, F, F], [F, F, T, F], [T, F, F, F], [F, F, F, T]]
    same = same_identity(found)
    assert same[0].tolist() == [[T, T, T, F], [T, T, T, F], [T, T, T, F], [F, F, F, T]]
    assert same[2].tolist() == [[T, T, F, F], [T, T, F, F], [F, F, T, F], [F, F, F, T]]
    assert torch.equal(same[3], torch.eye(4, dtype=torch.bool))


def test_pairs_in_small_masks_weigh_up_to_ten() -> None:
    """Areas 1, 2, 4: inverse products 1, 1/2, 1/4, 1/8, 1/16 -> 1 + 9 (v - 1/16) / (15/16)."""
    found = pair_weights(torch.tensor([1.0, 2.0, 4.0]))
    wanted = [[10.0, 5.2, 2.8], [5.2, 2.8, 1.6], [2.8, 1.6, 1.0]]
    torch.testing.assert_close(found, torch.tensor(wanted))
    assert torch.equal(pair_weights(torch.full((2,), 5.0)), torch.ones(2, 2))


def test_pairs_that_change_with_the_scale_count_and_about_as_many_others() -> None:
    members, extent = nested()
    same = same_identity(memberships(members, extent, torch.tensor([20.0, 2.0])))
    easy = torch.where(same, 0.9, 0.1)
    for pairs in choose_pairs(same, easy, 0, dice()):
        chosen = {(a, b) for a, b in pairs.nonzero().tolist()}
        # The table goes with lid and pot at scale 20 alone; those two always, the wall never.
        assert {(0, 2), (1, 2)} <= chosen
        assert all(a < b for a, b in chosen)
    counts = [int(choose_pairs(same, easy, 0, dice(seed))[0].sum()) for seed in range(200)]
    assert 3.7 < sum(counts) / 200 < 4.3  # the two, and two of four others


def test_hard_pairs_count_at_the_scale_where_they_are_hard() -> None:
    same = torch.eye(4, dtype=torch.bool).repeat(2, 1, 1)
    same[:, 0, 1] = True  # at both scales, so no pair changes and none is drawn
    cosine = torch.where(same, 0.75, 0.5)
    assert not choose_pairs(same, cosine, 0, dice()).any()
    cosine[0, 0, 1], cosine[1, 2, 3], cosine[1, 3, 2] = 0.74, 0.51, 0.51
    assert choose_pairs(same, cosine, 0, dice()).nonzero().tolist() == [[0, 0, 1], [1, 2, 3]]
    assert int(choose_pairs(same, cosine, 1000, dice())[0].sum()) == 6  # every pair once


def test_the_contrast_of_four_pairs() -> None:
    """Positives cos .2 (weight 2) and -.4 (weight 1); negatives .6 (weight 3), -.5 (weight 4).

    -(2 * .2 - 1 * .4) / 2 + (3 * .6 + 4 * 0) / 2 = 0 + .9; one more pair is not chosen.
    """
    cosine = torch.tensor([[[0.2, -0.4, 0.6, -0.5, 0.9]]], requires_grad=True)
    same = torch.tensor([[[T, T, F, F, F]]])
    chosen = torch.tensor([[[T, T, T, T, F]]])
    weight = torch.tensor([[2.0, 1.0, 3.0, 4.0, 9.0]])
    loss = contrastive_loss(cosine, same, weight, chosen)
    assert loss.item() == pytest.approx(0.9)
    loss.backward()
    assert cosine.grad is not None
    assert cosine.grad.flatten().tolist() == pytest.approx([-1.0, -0.5, 1.5, 0.0, 0.0])
    assert contrastive_loss(cosine, same, weight, chosen & ~chosen).item() == 0.0


def test_rendered_features_should_be_of_length_one() -> None:
    assert norm_loss(torch.tensor([[3.0, 4.0], [0.0, 0.5]])).item() == pytest.approx(1.75**2)
