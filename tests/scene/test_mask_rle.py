# SPDX-License-Identifier: Apache-2.0
"""COCO's codes of masks, against pycocotools and against masks that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scene.masks.formats.rle import decode_rle, encode_rle, polygon_mask


def random_mask(height: int, width: int, seed: int) -> np.ndarray:
    """Patches of all sizes, from full to empty."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for _ in range(int(rng.integers(0, 5))):
        row, column = rng.integers(height), rng.integers(width)
        mask[row : row + rng.integers(1, height + 1), column : column + 3] ^= True
    return mask if seed % 7 else rng.random((height, width)) < 0.5


# Worked out by hand from the rules at the top of the module.
KNOWN = [
    ([[0, 0], [0, 1]], [3, 1], "31"),
    ([[1, 1], [1, 1]], [0, 4], "04"),
    ([[0, 0], [0, 0]], [4], "4"),
    ([[0, 1, 0, 1, 1, 1, 0]], [1, 1, 1, 3, 1], "11120"),
    # 40 = 8 + 32 * 1: groups 8 (more follow), 1; then 1 - 0 and so on.
    ([[0] * 40 + [1]], [40, 1], "X11"),
]


@pytest.mark.parametrize(("rows", "lengths", "text"), KNOWN)
def test_known_codes(rows: list[list[int]], lengths: list[int], text: str) -> None:
    mask = np.array(rows, bool)
    assert encode_rle(mask) == {"size": list(mask.shape), "counts": text}
    for counts in (text, text.encode(), lengths):
        np.testing.assert_array_equal(decode_rle(counts, *mask.shape), mask)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_codes_come_back(height: int, width: int, seed: int) -> None:
    mask = random_mask(height, width, seed)
    code = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(code["counts"], *code["size"]), mask)


def test_codes_are_those_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for seed in range(300):
        height, width = 1 + seed % 53, 1 + seed % 37
        mask = random_mask(height, width, seed)
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert encode_rle(mask)["counts"] == theirs["counts"].decode()
        np.testing.assert_array_equal(decode_rle(theirs["counts"], height, width), mask)
    long = np.zeros((2000, 1500), bool)
    long[100:1900, 7:1400] = True
    theirs = coco.encode(np.asfortranarray(long.astype(np.uint8)))
    np.testing.assert_array_equal(decode_rle(theirs["counts"], 2000, 1500), long)


@pytest.mark.parametrize(
    "counts",
    ["", "3", "33", "3\x7f", "1~", "Z", "zzzzzzzz1", "41", [5], [3, -1, 2], [2**40], [1.0, 3.0]]
    + [[True, 3], None, {"a": 1}, "é", 4],
)
def test_what_is_no_code_of_that_size_is_refused(counts: object) -> None:
    with pytest.raises(ValueError):
        decode_rle(counts, 2, 2)


def test_polygons_hold_the_pixels_whose_centres_are_inside() -> None:
    corners = np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]])
    expected = np.zeros((5, 6), bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(polygon_mask([corners], 5, 6), expected)
    np.testing.assert_array_equal(polygon_mask([corners[::-1]], 5, 6), expected)
    far = corners + [100.0, -50.0]
    assert not polygon_mask([far], 5, 6).any()
    assert polygon_mask([np.array([[-9, -9], [99, -9], [99, 99], [-9, 99.0]])], 5, 6).all()


def test_polygons_are_the_slow_test_of_every_centre() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        polygons = [rng.uniform(-5, 25, (int(rng.integers(3, 8)), 2)) for _ in range(2)]
        inside = np.zeros((16, 21), bool)
        for corners in polygons:
            for row in range(16):
                for column in range(21):
                    crossings = 0
                    for one, two in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                        if (one[1] <= row + 0.5) != (two[1] <= row + 0.5):
                            share = (row + 0.5 - one[1]) / (two[1] - one[1])
                            crossings += one[0] + share * (two[0] - one[0]) > column + 0.5
                    inside[row, column] |= crossings % 2 == 1
        np.testing.assert_array_equal(polygon_mask(polygons, 16, 21), inside)


def test_polygons_agree_with_pycocotools_but_for_outlines() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(4)
    for _ in range(20):
        turn = np.sort(rng.uniform(0, 2 * np.pi, 9))
        reach = rng.uniform(20, 45, 9)
        corners = np.stack([60 + reach * np.cos(turn), 50 + reach * np.sin(turn)], 1)
        theirs = coco.decode(coco.frPyObjects([corners.ravel().tolist()], 100, 120))[..., 0] > 0
        ours = polygon_mask([corners], 100, 120)
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.96
