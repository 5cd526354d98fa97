# SPDX-License-Identifier: Apache-2.0
"""Parts and groups from masks of several levels."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from iqgs.objects.granularity import Nodes
from iqgs.objects.mask_levels import LEVELS, MaskVotes, masks_at_levels
from scene.masks import MaskLayers, MaskPatches

WIDTH = 24  # pixels of a view of one row: 0..11 an object of two halves, 12..17, 18..23 two more


def view(*masks: tuple[int, int, int], blind: range = range(0)) -> MaskPatches:
    """Masks (level, first, last pixel) of a view; nothing is known of `blind` pixels."""
    rows = np.zeros((len(masks), WIDTH), bool)
    for row, (_, first, last) in zip(rows, masks, strict=True):
        row[first:last] = True
    ignored = np.isin(np.arange(WIDTH), blind)
    level = np.array([level for level, _, _ in masks], np.int32)
    bits = np.packbits(rows, axis=1)
    layers = MaskLayers.from_bits((1, WIDTH), bits, level=level, ignored=np.packbits(ignored))
    return MaskPatches.from_layers(layers)


WHOLE = ((0, 0, 18), (1, 0, 12), (1, 12, 18), (0, 18, 24), (2, 0, 6), (2, 6, 12))


def nodes() -> Nodes:
    """A node a pixel, each of four splats."""
    owner = np.repeat([3, 5, 8], [12, 6, 6])
    center = np.stack([np.arange(WIDTH), 0 * np.arange(WIDTH), 0 * np.arange(WIDTH)], axis=1)
    return Nodes(np.repeat(np.arange(WIDTH), 4), owner, center.astype(np.float64))


def test_a_pixel_is_in_the_smallest_mask_of_the_level() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        masks = []
        for _ in range(rng.integers(1, 8)):
            first, last = sorted(rng.choice(WIDTH + 1, 2, replace=False).tolist())
            masks.append((int(rng.integers(0, 4)), first, last))
        patches = view(*masks, blind=range(2, 4))
        found = masks_at_levels(patches)
        assert len(found) == LEVELS
        for level, mask in enumerate(found):
            for x in range(WIDTH):
                inside = [k for k, (deep, a, b) in enumerate(masks) if deep <= level and a <= x < b]
                sizes = [
                    masks[k][2] - masks[k][1] - len({2, 3} & set(range(*masks[k][1:])))
                    for k in inside
                ]
                if x in (2, 3) or not inside:
                    assert mask[x] == -1
                else:
                    assert mask[x] in inside and sizes[inside.index(mask[x])] == min(sizes)


def test_what_masks_hold_together_in_most_views_is_one() -> None:
    votes = MaskVotes(nodes())
    seen = sparse.csr_matrix(np.eye(WIDTH))
    for _ in range(3):
        votes.add(seen, view(*WHOLE))
    votes.add(seen, view((0, 0, 24)))  # a view whose masks found one thing only
    found = votes.division()
    assert found.groups == [{3: found.groups[0][3], 5: found.groups[0][5], 8: found.groups[0][8]}]
    assert found.groups[0][3] == found.groups[0][5] != found.groups[0][8]
    assert set(found.parts) == {3}, "what no level divides has no parts"
    (piece,) = found.parts[3]
    assert len(piece) == 48 and len(set(piece[:24])) == len(set(piece[24:])) == 1
    assert piece[0] != piece[-1]


def test_views_count_by_what_they_show() -> None:
    """Four views in which a gleam of object 8 comes through object 5, one that shows both."""
    votes = MaskVotes(nodes())
    through = np.eye(WIDTH)
    through[18:] = 0
    through[12, 18:] = 0.01
    for _ in range(4):
        votes.add(sparse.csr_matrix(through), view((0, 0, 12), (0, 12, 18)))
    votes.add(sparse.csr_matrix(np.eye(WIDTH)), view((0, 0, 12), (0, 12, 18), (0, 18, 24)))
    assert votes.division().groups == []


def test_what_no_view_shows_goes_with_what_is_near() -> None:
    votes = MaskVotes(nodes())
    dark = np.eye(WIDTH)
    dark[1] = 0  # the second pixel sees nothing of its node
    for _ in range(2):
        votes.add(sparse.csr_matrix(dark), view(*WHOLE))
    (piece,) = votes.division().parts[3]
    assert len(set(piece[:24])) == len(set(piece[24:])) == 1
