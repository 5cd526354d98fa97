# SPDX-License-Identifier: Apache-2.0
"""Connected regions of label maps: by hand, and against a flood fill."""

from __future__ import annotations

import numpy as np
import pytest

from scene.masks import connected_regions


def test_an_id_in_two_places_has_two_regions_and_corners_touch() -> None:
    label_map = np.array(
        [[1, 1, 0, 4, -1], [0, 2, 0, 4, -1], [2, 0, 0, 0, 1], [2, 0, 1, 1, 0]], np.int32
    )
    expected = [[1, 1, 0, 4, -1], [0, 3, 0, 4, -1], [3, 0, 0, 0, 2], [3, 0, 2, 2, 0]]
    found = connected_regions(label_map)
    assert found.dtype == np.int32
    assert found.tolist() == expected


def test_a_map_without_objects_stays() -> None:
    label_map = np.array([[0, -1], [0, 0]], np.int32)
    assert connected_regions(label_map).tolist() == label_map.tolist()


def flooded(label_map: np.ndarray) -> np.ndarray:
    """One pixel after the other, by a stack."""
    regions, count = np.minimum(label_map, 0), 0
    height, width = label_map.shape
    for start in zip(*np.nonzero(label_map > 0), strict=True):
        if regions[start]:
            continue
        count, stack = count + 1, [start]
        while stack:
            y, x = stack.pop()
            if regions[y, x]:
                continue
            regions[y, x] = count
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if label_map[v, u] == label_map[y, x]:
                        stack.append((v, u))
    return regions


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_flood_fill_up_to_numbers(seed: int) -> None:
    label_map = np.random.default_rng(seed).integers(-1, 4, (13, 17)).astype(np.int32)
    found, expected = connected_regions(label_map), flooded(label_map)
    pairs = np.unique(np.stack([found, expected]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == len(np.unique(found)) == len(np.unique(expected))
    assert (found[label_map <= 0] == label_map[label_map <= 0]).all()
    assert found.max() == pairs.shape[1] - 2  # numbered without gaps, beside 0 and -1
