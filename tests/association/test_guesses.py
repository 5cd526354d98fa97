# SPDX-License-Identifier: Apache-2.0
"""Guesses of the tracks: which one is taken, and what becomes of second tracks of an object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from iqgs.association import MaskView, associate, graph_starts, lift, refine
from iqgs.association.associate import agreement
from iqgs.association.refine import _one_round, dissolve
from iqgs.association.start import _clustered, overlaps
from tests.association.worlds import make_world, tiles


def test_ids_that_are_switched_everywhere_still_name_better_tracks() -> None:
    """Half of the masks carry a neighbour's id: found without the ids, named by them."""
    world = make_world(tiles, views=30, window=0.75)
    rng = np.random.default_rng(4)
    maps = [labels.copy() for labels in world.truth]
    for labels, truth in zip(maps, world.truth, strict=True):
        here = rng.permutation([int(i) for i in np.unique(truth) if i])
        for one, two in zip(here[: len(here) // 2 : 2], here[1 : len(here) // 2 : 2], strict=False):
            labels[truth == one], labels[truth == two] = two, one
    found = associate(world.views(maps), len(world.objects), True)
    assert found.start == "given"
    assert sorted(found.names.tolist()) == world.ids
    splats = np.append(found.names, 0)[found.splats]
    sure = world.objects > 0
    assert (splats == world.objects)[sure].mean() > 0.97


def test_clusters_that_stand_side_by_side_can_be_kept_apart() -> None:
    """Two objects that every view shows, and whose masks overlap a little by bad outlines."""
    views = 10
    first, second = np.arange(0, 12), np.arange(9, 20)  # splats 9, 10, 11 are in both at times
    maps = []
    for view in range(views):
        labels = np.zeros(20, np.int64)
        labels[second] = 2
        labels[first if view % 2 else first[:9]] = 1
        maps.append(MaskView(sparse.identity(20, np.float32, "csr"), labels))
    masks = lift(maps, 20, True)
    found, alone = overlaps(masks), np.arange(len(masks))
    assert found.iou.max() > 0
    low = 0.01  # a bar so low that the overlap alone makes one of both
    assert len(np.unique(_clustered(found, alone, low))) == 1
    assert _same_partition(_clustered(found, alone, low, apart=True), masks.ids)
    assert _same_partition(graph_starts(masks)[1], masks.ids)


def _same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one, two]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(two))


def test_dissolved_masks_go_where_most_of_their_splats_are_claimed() -> None:
    eye = sparse.identity(12, np.float32, "csr")
    rows = [
        [1] * 6 + [2] * 6,
        [1] * 6 + [2] * 6,
        [3] * 5 + [0] * 3 + [2] * 4,  # 3: a second track of object 1
        [0] * 8 + [2] * 4,
    ]
    masks = lift([MaskView(eye, np.array(row)) for row in rows], 12, True)
    tracks = refine(masks, masks.ids - 1, rounds=0)
    weak = np.array([False, False, True])
    found = dissolve(masks, tracks, weak)
    assert found[masks.ids == 3] == found[masks.ids == 1][0]
    assert (found[masks.ids == 2] == found[masks.ids == 2][0]).all()
    alone = dissolve(masks, tracks, np.array([True, True, False]))
    assert len(np.unique(alone[masks.ids == 2])) == 4  # nobody else claims their splats


def test_agreement_is_the_mean_overlap_of_masks_that_nobody_contradicts() -> None:
    eye = sparse.identity(8, np.float32, "csr")
    rows = [[1] * 4 + [2] * 4, [1] * 4 + [2] * 4, [2] * 4 + [1] * 4]  # the last view is switched
    masks = lift([MaskView(eye, np.array(row)) for row in rows], 8, True)
    right = _one_round(masks, np.array([0, 1, 0, 1, 1, 0]))
    assert agreement(masks, right) == pytest.approx(1.0)
    switched = replace(right, track=masks.ids - 1)
    judged = replace(switched, iou=np.array([0.5, 0.5, 0.5, 0.5, 0, 0], np.float32))
    judged = replace(judged, precision=judged.iou.copy())
    assert agreement(masks, judged) == pytest.approx(2 / 6)
    assert agreement(masks, replace(judged, track=np.array([0, 1, 0, 1, -1, -1]))) < 0.34
