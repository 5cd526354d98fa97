# SPDX-License-Identifier: Apache-2.0
"""What becomes of a pile of proposed masks, on masks whose outcome is plain to see."""

from __future__ import annotations

import numpy as np
import pytest

from arguments.masks import MergeParams
from iqgs.preparation.proposals.merging import (
    clean,
    distinct,
    flatten,
    intersections,
    levels,
    merge,
)
from scene.masks import NO_TARGET, MaskLayers

from .shapes import SIZE, box, pile

PIXELS = SIZE[0] * SIZE[1]
KEEP_ALL = {"min_area": 0.0, "max_area": 1.0, "fill_area": 0.0}


def random_pile(seed: int, count: int = 12, size: tuple[int, int] = (23, 31)) -> MaskLayers:
    rng = np.random.default_rng(seed)
    masks = [np.kron(rng.random((6, 8)) > 0.6, np.ones((4, 4)))[: size[0], : size[1]] > 0]
    masks += [
        np.roll(masks[0], (k, 2 * k), (0, 1)) & (rng.random(size) > 0.1) for k in range(count)
    ]
    return pile(*masks, score=rng.random(count + 1).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_intersections_count_common_pixels(seed: int) -> None:
    layers = random_pile(seed)
    flat = layers.unpack().reshape(len(layers), -1).astype(np.int64)
    np.testing.assert_array_equal(intersections(layers), flat @ flat.T)


def test_intersections_over_many_blocks() -> None:
    rng = np.random.default_rng(0)
    masks = [np.repeat(rng.random((700, 30)) > 0.5, 25, axis=1) for _ in range(3)]
    layers = pile(*masks)
    flat = layers.unpack().reshape(3, -1).astype(np.int64)
    np.testing.assert_array_equal(intersections(layers), flat @ flat.T)


def test_holes_are_filled_and_specks_removed_up_to_a_size() -> None:
    mask = box(5, 5, 25, 25)
    mask[10:13, 10:13] = False  # a hole of 9 pixels
    mask[18:22, 18:22] = False  # one of 16
    mask[2, 30:35] = True  # a speck of 5
    mask[5:10, 15] = False  # a notch from the border: no hole
    found = clean(pile(mask), 10).mask(0)
    expected = mask.copy()
    expected[10:13, 10:13] = True
    expected[2, 30:35] = False
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(clean(pile(mask), 1).mask(0), mask)


def test_the_largest_island_stays_however_small_and_the_image_border_closes_no_hole() -> None:
    tiny = box(3, 3, 5, 5)
    tiny[20, 20] = True
    np.testing.assert_array_equal(clean(pile(tiny), 50).mask(0), box(3, 3, 5, 5))
    bay = box(0, 0, 10, 10)
    bay[0:2, 4:6] = False  # open to the border of the image only
    np.testing.assert_array_equal(clean(pile(bay), 50).mask(0), bay)
    empty = pile(np.zeros((30, 40), bool))
    assert not clean(empty, 50).mask(0).any()


@pytest.mark.parametrize("seed", range(5))
def test_of_duplicates_the_better_stays(seed: int) -> None:
    layers = random_pile(seed)
    masks, kept = layers.unpack(), []
    for index in sorted(range(len(layers)), key=lambda k: -float(layers.score[k])):
        ious = [(masks[index] & masks[k]).sum() / (masks[index] | masks[k]).sum() for k in kept]
        if all(iou <= 0.4 for iou in ious):
            kept.append(index)
    assert distinct(layers, intersections(layers), 0.4).tolist() == sorted(kept)


def test_levels_count_what_a_mask_lies_in() -> None:
    whole, part, button = box(0, 0, 30, 20), box(2, 2, 18, 18), box(4, 4, 8, 8)
    beside, leaning = box(32, 0, 40, 10), box(25, 10, 35, 20)  # the last: half in the first
    layers = pile(button, whole, beside, part, leaning)
    assert levels(intersections(layers), 0.9).tolist() == [2, 0, 0, 1, 0]
    assert levels(intersections(layers), 0.51)[4] == 0
    twins = pile(part, part)
    assert levels(intersections(twins), 0.9).tolist() == [0, 1]


def test_small_objects_are_never_eaten_by_large_ones() -> None:
    """Whatever the scores say, the order of the masks, or how many there are."""
    large, small = box(0, 0, 40, 20), box(10, 5, 14, 9)
    for masks, score in (((large, small), (0.99, 0.5)), ((small, large), (0.5, 0.99))):
        layers = merge(pile(*masks, score=score), MergeParams(**KEEP_ALL))
        ids = flatten(layers, MergeParams(**KEEP_ALL))
        values, counts = np.unique(ids, return_counts=True)
        assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 400, 1: 784, 2: 16}
        np.testing.assert_array_equal(ids == 2, small)
        assert layers.level.tolist() == [0, 1]


def test_areas_are_shares_of_the_image() -> None:
    tiny, middle, huge = box(0, 0, 3, 4), box(5, 5, 25, 25), box(0, 0, 40, 29)
    limits = MergeParams(min_area=13 / PIXELS, max_area=1000 / PIXELS, fill_area=0.0)
    found = merge(pile(tiny, middle, huge), limits)
    assert found.areas().tolist() == [400]
    looser = MergeParams(min_area=12 / PIXELS, max_area=1160 / PIXELS, fill_area=0.0)
    assert merge(pile(tiny, middle, huge), looser).areas().tolist() == [1160, 400, 12]
    nothing = merge(pile(np.zeros((30, 40), bool)), MergeParams(**KEEP_ALL))
    assert len(nothing) == 0 and not flatten(nothing, MergeParams()).any()


def test_a_mask_that_its_parts_cover_gets_no_id() -> None:
    """Else what is left of it, a rim of some pixels, would be an object."""
    whole, left, right = box(0, 0, 20, 20), box(0, 0, 10, 20), box(10, 0, 20, 19)
    ids = flatten(pile(whole, left, right), MergeParams(min_visible=0.2))
    assert set(np.unique(ids).tolist()) == {0, 2, 3} and ids[19, 15] == 0
    ids = flatten(pile(whole, left, right), MergeParams(min_visible=0.0))
    assert ids[19, 15] == 1


def test_the_level_of_the_ids_is_a_choice() -> None:
    layers = merge(pile(box(0, 0, 30, 20), box(2, 2, 10, 10)), MergeParams(**KEEP_ALL))
    whole = flatten(layers, MergeParams(finest_level=0))
    assert np.unique(whole).tolist() == [0, 1]
    parts = flatten(layers, MergeParams(finest_level=1))
    assert np.unique(parts).tolist() == [0, 1, 2]


def test_numbers_and_pixels_without_a_target_are_kept() -> None:
    label_map = np.zeros((30, 40), np.int32)
    label_map[box(2, 2, 12, 12)] = 700
    label_map[box(20, 2, 32, 12)] = NO_TARGET
    layers = merge(MaskLayers.from_label_map(label_map), MergeParams(**KEEP_ALL))
    np.testing.assert_array_equal(flatten(layers, MergeParams(), layers.source), label_map)
