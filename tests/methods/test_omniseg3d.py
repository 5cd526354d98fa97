# SPDX-License-Identifier: Apache-2.0
"""OmniSeg3D's hierarchy and loss against numbers worked out by hand from its formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from iqgs.methods.omniseg3d.hierarchy import hierarchy_of, levels_of, with_parts
from iqgs.methods.omniseg3d.losses import (
    hierarchical_loss,
    length_loss,
    patch_means,
    unit_by_norm,
)
from iqgs.methods.omniseg3d.method import with_enough_pixels
from scene.masks import MaskLayers, MaskPatches

T, F = True, False
BOUNDS = (0.5, 1.0)  # of temperatures, the released code's


def masks_of(masks: np.ndarray) -> MaskPatches:
    bits = np.array([np.packbits(mask) for mask in masks])
    return MaskPatches.from_layers(MaskLayers.from_bits(masks.shape[1:], bits))


def test_a_whole_takes_in_parts_that_stick_out_a_little() -> None:
    """In a row of 40 pixels: a handle 0..9, a pot 1..20, a table 2..39.

    Nine tenths of the handle are in the pot, which takes it in; 19 of the pot's then 21 pixels are
    within the table, more than nine tenths, so the table ends with all; at .95 the handle's nine
    tenths are too few for the pot, and so are eight for the table, but 19 of the pot's 20 are .95.
    """
    rows = np.zeros((3, 1, 40), bool)
    rows[0, 0, 0:10], rows[1, 0, 1:21], rows[2, 0, 2:40] = True, True, True
    masks = masks_of(rows)
    found = with_parts(masks.members, masks.size, 0.9)[masks.patch[0]].T
    assert [int(mask.sum()) for mask in found] == [10, 21, 40]
    found = with_parts(masks.members, masks.size, 0.95)[masks.patch[0]].T
    assert [int(mask.sum()) for mask in found] == [10, 20, 39]
    assert found[2].tolist() == [F] + [T] * 39


def test_the_hierarchy_counts_the_masks_that_patches_share() -> None:
    """Lid in a pot on a table, a wall beside them, and a pixel that nobody claimed."""
    rows = np.zeros((4, 1, 12), bool)
    rows[0, 0, 0:2], rows[1, 0, 0:5], rows[2, 0, 0:8], rows[3, 0, 8:11] = True, True, True, True
    masks = masks_of(rows)
    tree = hierarchy_of(masks, 0.9)
    patch = tree.patch[masks.patch[0]]
    lid, pot, table, wall = (int(patch[x]) for x in (0, 3, 6, 9))
    assert sorted((lid, pot, table, wall)) == [0, 1, 2, 3] and patch[11] == -1
    order = torch.tensor([lid, pot, table, wall])
    shared = [[3, 2, 1, 0], [2, 2, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert tree.shared[order][:, order].tolist() == shared
    levels = [[0, 1, 2, -1], [0, 0, 1, -1], [0, 0, 0, -1], [-1, -1, -1, 0]]
    assert levels_of(torch.tensor(shared)).tolist() == levels


def test_patches_that_become_the_same_are_one() -> None:
    rows = np.zeros((2, 1, 30), bool)
    rows[0, 0, 0:10], rows[1, 0, 1:30] = True, True  # the first pixel joins the larger mask
    masks = masks_of(rows)
    assert len(masks.members) == 3
    tree = hierarchy_of(masks, 0.9)
    assert tree.shared.shape == (2, 2)
    assert tree.patch[masks.patch[0, 0]] == tree.patch[masks.patch[0, 5]]


def test_lengths_are_divided_out_without_a_gradient() -> None:
    """d(f / |f|) with |f| held still: the gradient of the first component is 1 / |f|."""
    features = torch.tensor([[3.0, 4.0]], requires_grad=True)
    unit = unit_by_norm(features)
    torch.testing.assert_close(unit.detach(), torch.tensor([[0.6, 0.8]]))
    unit[0, 0].backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, torch.tensor([[0.2, 0.0]]))
    assert torch.isfinite(unit_by_norm(torch.zeros(1, 2))).all()


def test_means_and_temperatures_of_patches() -> None:
    """(1, 0) and (0, 1): mean (.5, .5), each sqrt(.5) away: 10 * 2 sqrt(.5) / (2 ln 12) = 2.8 -> 1.

    (1, 0) and (.96, .28): each half of sqrt(.04^2 + .28^2) = .28284 away from the mean:
    10 * .28284 / (2 ln 12) = .5691. Alone: spread 0 -> .5.
    """
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.96, 0.28], [0.0, -1.0]])
    means, phi = patch_means(unit, torch.tensor([0, 0, 1, 1, 2]), 3, BOUNDS)
    torch.testing.assert_close(means, torch.tensor([[0.5, 0.5], [0.98, 0.14], [0.0, -1.0]]))
    assert phi.tolist() == pytest.approx([1.0, 0.5691, 0.5], abs=1e-4)


def test_the_loss_of_two_levels() -> None:
    """Three pixels, each a patch of its own: a = (1, 0), b = (0, 1), c = (-1, 0); phi = .5 all.

    Logits of a: 2, 0, -2; of b: 0, 2, 0; of c: -2, 0, 2. Patches a and b share a mask.
    """
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    level = torch.tensor([[0, 1, -1], [1, 0, -1], [-1, -1, 0]])
    of_a = math.log(math.exp(2) + 1 + math.exp(-2))
    of_b = math.log(2 + math.exp(2))
    a = (of_a - 2) + of_a / 5
    b = (of_b - 2) + of_b / 5
    c = of_a - 2
    found = hierarchical_loss(unit, torch.tensor([0, 1, 2]), level, 5.0, BOUNDS)
    assert found.item() == pytest.approx((a + b + c) / 3)


def test_farther_levels_cost_no_less_than_nearer_ones() -> None:
    """The pixel is at (1, 0) in patch 0 whose other pixel is at (-1, 0), so patch 1 at (1, 0) is
    nearer to it than its own mean, the origin (phi = 1): at level 1 it costs what its own does.

    Logits: own 0, patch 1 at phi .5: 2. Own contrast ln(1 + e^2), patch 1's ln(1 + e^-2) < it.
    """
    unit = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    level = torch.tensor([[0, 1], [1, 0]])
    near, far = math.log1p(math.exp(2)), math.log1p(math.exp(-2))
    first = near + near / 5
    second = far + max(near, far) / 5  # at (-1, 0): logits 0 and -2, own the better one
    third = far + near / 5
    found = hierarchical_loss(unit, torch.tensor([0, 0, 1]), level, 5.0, BOUNDS)
    assert found.item() == pytest.approx((first + second + third) / 3)


def test_features_should_be_of_length_one() -> None:
    assert length_loss(torch.tensor([[3.0, 4.0], [0.0, 0.5]])).item() == pytest.approx(8.125)


def test_patches_of_few_pixels_are_left_out() -> None:
    patch, kept = with_enough_pixels(torch.tensor([2, 2, 0, -1, 3, 3, 3, 0]), 4, 1)
    assert kept.tolist() == [0, 2, 3]
    assert patch.tolist() == [1, 1, 0, -1, 2, 2, 2, 0]
    patch, kept = with_enough_pixels(torch.tensor([2, 2, 0, -1, 3, 3, 3, 0]), 4, 2)
    assert kept.tolist() == [3] and patch.tolist() == [-1, -1, -1, -1, 0, 0, 0, -1]
