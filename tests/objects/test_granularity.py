# SPDX-License-Identifier: Apache-2.0
"""Objects at several levels: one tree, numbers that stay, and who is whose neighbour."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import sparse

from iqgs.objects import edits
from iqgs.objects.applying import with_parts
from iqgs.objects.granularity import (
    Division,
    Granularity,
    Nodes,
    granularity,
    neighbor_groups,
    neighbor_relation,
    nested,
    undivided,
)
from iqgs.objects.labelled import LabelledSplats

from .figures import BALL, RING, WALL, ball, ball_in_ring, labelled


def thirds(objects: LabelledSplats, number: int) -> list[np.ndarray]:
    """Two divisions of an object by height: in halves, and the upper half once more."""
    z = objects.of(number).splats.means[:, 2].detach().numpy()
    half, quarter = z > np.median(z), z > np.quantile(z, 0.75)
    return [half.astype(np.int64), half.astype(np.int64) + quarter]


@pytest.fixture
def objects() -> LabelledSplats:
    whole = ball_in_ring()
    inside = ball((0.0, 0.0, 0.2), 0.05, 20)
    parts = {0: inside, **{n: whole.of(n).splats for n in (BALL, RING, WALL)}}
    found = labelled(parts, {BALL: "ball", RING: "ring"})
    return dataclasses.replace(found, hidden=torch.where(found.labels == 0, BALL, 0))


@pytest.fixture
def tree(objects: LabelledSplats) -> Granularity:
    parts = {BALL: thirds(objects, BALL), RING: [np.zeros(len(objects.of(RING)), np.int64)]}
    groups = [{BALL: 0, RING: 0, WALL: 1}, {BALL: 5, RING: 5, WALL: 5}]
    return granularity(objects, Division(parts, groups), taken=(40,))


def test_levels_are_nested_and_what_is_not_divided_keeps_its_number(
    objects: LabelledSplats, tree: Granularity
) -> None:
    assert sorted(tree.labels) == [-2, -1, 0, 1, 2]
    numbers = {level: set(labels.tolist()) - {0} for level, labels in tree.labels.items()}
    assert numbers[0] == {BALL, RING, WALL} and numbers[-1] == {41, WALL} and numbers[-2] == {42}
    assert numbers[1] == {43, 44, RING, WALL} and numbers[2] == {43, 45, 46, RING, WALL}
    for level in (-1, 0, 1, 2):  # each set lies in one set of the next coarser level
        pairs = set(zip(tree.labels[level].tolist(), tree.labels[level - 1].tolist(), strict=True))
        assert len(pairs) == len(numbers[level]) + 1
        changed = {fine: coarse for fine, coarse in pairs if fine != coarse}
        assert changed.items() <= tree.parents.items()
    for labels in tree.labels.values():
        assert torch.equal(labels == 0, objects.labels == 0)
    assert tree.names == {
        41: "ring + ball",
        42: "ring + object 7 + ball",
        43: "ball part 1",
        44: "ball part 2",
        45: "ball part 2 part 1",
        46: "ball part 2 part 2",
    }


def test_objects_at_a_level_know_their_wholes_and_what_they_hide(
    objects: LabelledSplats, tree: Granularity
) -> None:
    seen = tree.at(objects, 1)
    assert seen.numbers() == [RING, WALL, 43, 44]
    assert seen.parents[44] == BALL and seen.parents[BALL] == 41 and seen.names[BALL] == "ball"
    assert seen.hidden is not None  # they lie in the upper half
    assert set(seen.hidden[objects.labels == 0].tolist()) == {44}
    grouped = tree.at(objects, -1)
    assert grouped.hidden is not None and set(grouped.hidden[:20].tolist()) == {41}
    assert torch.equal(tree.at(objects, 0).labels, objects.labels)
    with pytest.raises(ValueError, match="there is no level 3; there are -2, -1, 0, 1, 2"):
        tree.at(objects, 3)


def test_parts_that_were_made_by_hand_stay(objects: LabelledSplats) -> None:
    made = edits.Parts(RING, (11, 12), "edits/parts-0123456789ab.npz", "")
    upper = (objects.of(RING).splats.means[:, 2] > 0).long()
    divided = with_parts(objects, made, upper)
    assert undivided(divided) == [BALL, WALL]
    tree = granularity(
        divided, Division({BALL: thirds(objects, BALL)[:1]}, [{BALL: 0, RING: 0}]), ()
    )
    assert torch.equal(tree.labels[0], objects.labels)
    hand = torch.isin(divided.labels, torch.tensor([11, 12]))
    assert torch.equal(tree.labels[1][hand], divided.labels[hand])
    assert set(tree.labels[1].tolist()) == {0, WALL, 11, 12, 14, 15}
    assert set(tree.labels[-1].tolist()) == {0, WALL, 13}


def test_large_groups_are_called_after_their_largest() -> None:
    many = labelled({n: ball((float(n), 0.0, 0.0), 0.3, 20 + n) for n in range(1, 6)}, {5: "big"})
    tree = granularity(many, Division({}, [dict.fromkeys(range(1, 6), 0)]), ())
    assert tree.names == {6: "big + 4 more"}


def test_a_coarser_division_takes_finer_parts_as_a_whole() -> None:
    fine = np.array([0, 0, 0, 1, 1, 2])
    coarse = np.array([4, 4, 9, 9, 9, 4])
    assert nested(coarse, fine).tolist() == [4, 4, 4, 9, 9, 4]


@pytest.fixture
def three() -> tuple[Nodes, sparse.csr_matrix]:
    """Rows of five nodes: 7 and 8 side by side, 9 far behind 7; equally many shared pixels."""
    line = np.arange(5)[:, None] * [0.1, 0.0, 0.0]
    center = np.concatenate([line, line + [0.0, 0.1, 0.0], line + [0.0, 0.0, 5.0]])
    owner = np.repeat([7, 8, 9], 5)
    shared = np.zeros((15, 15))
    np.fill_diagonal(shared, 2.0)
    for a in range(5):
        for b in (a + 5, a + 10):
            shared[a, b] = shared[b, a] = 1.0
    return Nodes(np.arange(15), owner, center), sparse.csr_matrix(shared)


def test_neighbours_share_pixels_and_are_near(three: tuple[Nodes, sparse.csr_matrix]) -> None:
    nodes, shared = three
    numbers, relation = neighbor_relation(nodes, shared)
    assert numbers.tolist() == [7, 8, 9]
    # Nodes lie 0.1 from the next and 0.4 from the fourth; of five, the median is 0.3.
    usual = np.median([sorted(abs(i - j) * 0.1 for j in range(5))[4] for i in range(5)])
    near = math.exp(-((0.1 / (2 * 2 * usual)) ** 2))
    slow = np.eye(3)
    slow[0, 1] = slow[1, 0] = 5 * near / (5 * 2.0)
    assert np.allclose(relation, slow, atol=1e-12)
    groups = neighbor_groups(numbers, relation)
    assert groups[0][7] == groups[0][8] != groups[0][9] and len(groups) == 1


def test_groups_become_fewer_by_threes() -> None:
    n = 27
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    groups = neighbor_groups(np.arange(n) + 1, np.exp(-apart.astype(float)))
    assert [len(set(level.values())) for level in groups] == [9, 3]
    fine, coarse = groups
    assert len({(fine[k], coarse[k]) for k in fine}) == 9, "nested"
