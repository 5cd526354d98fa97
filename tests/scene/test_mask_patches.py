# SPDX-License-Identifier: Apache-2.0
"""Patches of overlapping masks against the masks themselves, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scene.cameras import Camera
from scene.masks import FORMATS, IdTable, MaskContent, MaskLayers, MaskPatches
from scene.view import View


def layers_of(masks: np.ndarray, ignored: np.ndarray | None = None) -> MaskLayers:
    bits = np.array([np.packbits(mask) for mask in masks])
    packed = None if ignored is None else np.packbits(ignored)
    return MaskLayers.from_bits(masks.shape[1:], bits, ignored=packed)


@pytest.mark.parametrize("count", [1, 5, 31, 32, 70])  # one pass over the pixels tells 31 apart
def test_every_pixel_is_in_the_masks_of_its_patch(count: int) -> None:
    rng = np.random.default_rng(count)
    # Few distinct sets of masks, as in pictures.
    kinds = rng.random((6, count)) < 0.4
    masks = kinds[rng.integers(6, size=(9, 13))].transpose(2, 0, 1)
    ignored = rng.random((9, 13)) < 0.1
    patches = MaskPatches.from_layers(layers_of(masks, ignored))
    patch = patches.patch.numpy()
    np.testing.assert_array_equal(patch < 0, ignored)
    for y, x in np.argwhere(~ignored):
        np.testing.assert_array_equal(patches.members[patch[y, x]], masks[:, y, x])
    assert len(torch.unique(patches.members, dim=0)) == len(patches.members)
    np.testing.assert_array_equal(
        patches.size, [(patch == i).sum() for i in range(len(patches.size))]
    )
    np.testing.assert_array_equal(patches.areas, (masks & ~ignored).sum(axis=(1, 2)))


def test_a_label_map_has_one_mask_for_each_id() -> None:
    label_map = np.array([[0, 4, 4, -1], [9, 9, 9, 0]], np.int32)
    patches = MaskPatches.from_label_map(label_map)
    assert patches.patch.tolist() == [[0, 1, 1, -1], [2, 2, 2, 0]]
    assert patches.members.tolist() == [[False, False], [True, False], [False, True]]
    assert patches.size.tolist() == [2, 2, 3] and patches.areas.tolist() == [2, 3]
    assert patches.at(torch.tensor([7, 1])).patch.tolist() == [0, 1]
    rest = patches.with_rest()
    assert rest.members[:, -1].tolist() == [True, False, False] and rest.areas.tolist() == [2, 3, 2]


def test_nothing_is_added_where_every_pixel_is_in_a_mask() -> None:
    patches = MaskPatches.from_label_map(np.array([[1, 2]], np.int32))
    assert patches.with_rest() is patches
    empty = MaskPatches.from_label_map(np.full((2, 2), -1, np.int32))
    assert empty.members.shape == (0, 0) and (empty.patch == -1).all()


def test_a_view_keeps_overlapping_masks_apart(tmp_path: Path) -> None:
    """A file of layers gives its layers, a label map its ids as the settings mean them."""
    masks = np.zeros((2, 6, 8), bool)
    masks[0, :, :4], masks[1, 2:, :] = True, True
    FORMATS["id_npy"].write(tmp_path / "a.npz", MaskContent.of_layers(layers_of(masks), "view"))
    pose = torch.eye(4, dtype=torch.float64)
    camera = Camera(pose, 8.0, 8.0, 4.0, 3.0, 8, 6, "a.png", 0)
    view = View(camera, tmp_path / "a.png", tmp_path / "a.npz", IdTable((1, 2), {}, "background"))
    found = view.patches_on(torch.device("cpu"))
    np.testing.assert_array_equal(found.members[found.patch].permute(2, 0, 1), masks)
    label_map = np.array([[1, 1, 2, 2, 2, 2, 2, 2]] * 6, np.int32)
    np.save(tmp_path / "b.npy", label_map)
    table = IdTable((1,), {}, "background", ignore_label=2)
    view = View(camera, tmp_path / "b.png", tmp_path / "b.npy", table)
    found = view.patches_on(torch.device("cpu"))
    assert found.members.shape[1] == 1
    np.testing.assert_array_equal(found.patch < 0, label_map == 2)
