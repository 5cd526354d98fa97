# SPDX-License-Identifier: Apache-2.0
"""Masks in memory: what is packed comes back, whatever its size, and overlaps follow the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scene.masks import InstanceMasks, MaskLayers, present_ids

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 11))


def packed(masks: np.ndarray, **columns: Any) -> MaskLayers:
    """Layers of bool masks [M, H, W]."""
    rows = [np.packbits(mask) for mask in masks]
    bits = np.array(rows, np.uint8).reshape(len(masks), -(-masks[0].size // 8))
    return MaskLayers.from_bits(masks.shape[1:], bits, **columns)


@given(SIZES, st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_bits_come_back_with_their_areas(size: tuple[int, int], count: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((count, *size)) < 0.4
    layers = packed(masks)
    np.testing.assert_array_equal(layers.unpack(), masks)
    for index in range(count):
        np.testing.assert_array_equal(layers.mask(index), masks[index])
    np.testing.assert_array_equal(layers.areas(), masks.sum(axis=(1, 2)))
    assert len(layers) == count and layers.source.tolist() == list(range(1, count + 1))


@given(SIZES, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_label_maps_come_back(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    label_map = rng.choice(np.array([-1, 0, 3, 70_000, 9], np.int32), size)
    layers = MaskLayers.from_label_map(label_map)
    assert layers.source.tolist() == sorted(set(label_map[label_map > 0].tolist()))
    for rule in ("small", "score"):
        np.testing.assert_array_equal(layers.to_label_map(rule), label_map)


@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_resizing_takes_the_nearest_pixel(
    size: tuple[int, int], other: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((3, *size)) < 0.5
    hidden = rng.random(size) < 0.3
    layers = packed(masks, score=np.array([0.1, 0.2, 0.3]), ignored=np.packbits(hidden))
    resized = layers.resized(other[1], other[0])
    for row in range(other[0]):
        for column in range(other[1]):
            y = int((row + 0.5) * size[0] / other[0])
            x = int((column + 0.5) * size[1] / other[1])
            assert resized.unpack()[:, row, column].tolist() == masks[:, y, x].tolist()
            assert resized.ignored_mask()[row, column] == hidden[y, x]
    assert resized.score.tolist() == layers.score.tolist()


def test_overlaps_go_to_the_smallest_or_to_the_best() -> None:
    masks = np.zeros((3, 1, 6), bool)
    masks[0, 0, :6], masks[1, 0, 2:4], masks[2, 0, 3:5] = True, True, True
    layers = packed(masks, source=np.array([7, 8, 9]), score=np.array([0.9, 0.2, 0.5]))
    assert layers.to_label_map("small").tolist() == [[7, 7, 8, 8, 9, 7]]  # equals: the earlier
    assert layers.to_label_map("score").tolist() == [[7] * 6]
    worst_first = packed(masks, score=np.array([0.1, 0.2, 0.5]))
    assert worst_first.to_label_map("score").tolist() == [[1, 1, 2, 3, 3, 1]]
    numbers = np.array([5, 5, 6])
    assert layers.to_label_map("small", numbers).tolist() == [[5, 5, 5, 5, 6, 5]]


def test_no_masks_are_an_empty_map() -> None:
    layers = MaskLayers.from_label_map(np.zeros((2, 3), np.int32))
    assert len(layers) == 0 and layers.unpack().shape == (0, 2, 3)
    assert not layers.to_label_map("small").any()
    assert layers.resized(7, 5).to_label_map("small").shape == (5, 7)


def test_wrong_layers_are_refused() -> None:
    good = packed(np.ones((2, 3, 3), bool))
    size, bits = (3, 3), good.packed
    for wrong in (bits[:, :1], bits.astype(np.int32), np.full((2, 2), 255, np.uint8)):
        with pytest.raises(ValueError, match="bytes|uint8|last pixel"):
            MaskLayers.from_bits(size, wrong)
    with pytest.raises(ValueError, match="score"):
        MaskLayers.from_bits(size, bits, score=np.ones(3))
    with pytest.raises(ValueError, match="ignored"):
        MaskLayers.from_bits(size, bits, ignored=np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="rule"):
        good.to_label_map("large")
    for numbers in (np.array([0, 1]), np.array([1, 2**31])):
        with pytest.raises(ValueError, match="numbers"):
            good.to_label_map("small", numbers)
    with pytest.raises(ValueError, match="expected 2 numbers"):
        good.to_label_map("small", np.array([1]))


def test_present_ids_small_and_huge() -> None:
    ids = np.array([[0, 5, -1], [65535, 5, -1]], np.int32)
    assert present_ids(ids) == (5, 65535)
    assert present_ids(np.array([[2**31 - 1, 0, -1]], np.int32)) == (2**31 - 1,)
    assert InstanceMasks.from_label_map(np.zeros((2, 2), np.int32)).ids == ()
