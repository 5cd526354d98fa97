# SPDX-License-Identifier: Apache-2.0
"""Parts of objects: the tree, cutting it, and reading objects at a level."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from gaussian_renderer import MIN_WEIGHT
from iqgs.objects import edits
from iqgs.objects.applying import apply_edit, with_parts
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import (
    LEAST_PART,
    MOST_NODES,
    PartTree,
    at_level,
    average_linkage,
    first_nodes,
    lineage,
    part_tree,
    parts_of,
)

from .figures import BALL, RENDERER, RING, WALL, ball, ball_in_ring, labelled, orbit


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.mark.parametrize("seed", range(5))
def test_joins_are_those_of_average_linkage(seed: int) -> None:
    """Means of 1 - r and of r order pairs alike, so scipy's tree over distances is the same."""
    n = 30
    relation = np.random.default_rng(seed).random(n * (n - 1) // 2)
    i, j = np.triu_indices(n, 1)
    merges = average_linkage(n, i, j, relation)
    assert len(merges) == n - 1
    theirs = linkage(1 - relation, "average")
    assert np.allclose(squareform(squareform(relation)), relation)
    tree = PartTree(np.arange(n), merges)
    for count in range(1, n + 1):
        mine = tree.pieces(np.zeros((n, 3)), count)
        assert partition(mine) == partition(fcluster(theirs, count, "maxclust"))
        assert (np.diff(np.bincount(mine)) <= 0).all(), "the largest is the first"


def test_nodes_without_relation_stay_apart() -> None:
    merges = average_linkage(4, np.array([0, 2]), np.array([1, 3]), np.array([0.5, 0.4]))
    assert merges.tolist() == [[0, 1], [2, 3]]
    assert average_linkage(2, np.array([0]), np.array([1]), np.zeros(1)).shape == (0, 2)
    tree = PartTree(np.arange(4), merges)
    assert partition(tree.pieces(np.zeros((4, 3)), 1)) == {frozenset(range(4))}, "the rest joins"
    assert partition(tree.pieces(np.eye(4, 3), 2)) == {frozenset({0, 1}), frozenset({2, 3})}


def test_dust_goes_to_the_nearest_part() -> None:
    """Two groups of 60 and one splat of its own: no part of 1 %, and near the second group."""
    n = int(2 / LEAST_PART)
    half = n // 2
    node = np.repeat([0, 1, 2], [half, half, 1])
    means = np.zeros((n + 1, 3))
    means[half:, 0] = 5.0
    means[-1, 0] = 6.0
    merges = np.array([[0, 2], [3, 1]])
    piece = PartTree(node, merges).pieces(means, 3)
    assert partition(piece) == {frozenset(range(half)), frozenset(range(half, n + 1))}


def test_parts_do_not_crumble_into_dust() -> None:
    """Of 101 splats each is less than 1 %: all wanted parts but those of two cannot be had."""
    n = int(1 / LEAST_PART) + 1
    means = np.random.default_rng(0).random((n, 3))
    merges = [[0, 1]] + [[k, n + k - 2] for k in range(2, n)]  # one after the other joins
    pieces = PartTree(np.arange(n), np.array(merges)).pieces(means, n)
    assert set(pieces.tolist()) == {0}
    pairs = [[2 * k, 2 * k + 1] for k in range(n // 2)]
    chain = [[n, n + 1]] + [[n + k, n + n // 2 + k - 2] for k in range(2, n // 2)]
    chain.append([n - 1, n + len(pairs) + len(chain) - 1])
    pieces = PartTree(np.arange(n), np.array(pairs + chain)).pieces(means, n)
    assert sorted(np.bincount(pieces).tolist()) == [2] * (n // 2 - 1) + [3]


def test_many_splats_start_in_cells() -> None:
    means = np.random.default_rng(0).random((MOST_NODES * 3, 3))
    node = first_nodes(means)
    assert MOST_NODES / 3 < node.max() + 1 < MOST_NODES
    assert set(node.tolist()) == set(range(node.max() + 1))
    for number in (0, int(node.max()) // 2):
        assert np.ptp(means[node == number], axis=0).max() < 0.15
    assert first_nodes(means[:100]).tolist() == list(range(100))
    line = np.zeros((MOST_NODES + 1, 3))  # all in one place: one cell
    line[0, 0] = 1.0
    assert first_nodes(line).max() == 1


def test_a_ball_and_a_ring_are_parts_of_what_both_are() -> None:
    objects = ball_in_ring()
    both = objects.rows(objects.labels != WALL)
    shared = sparse.csr_matrix((len(both), len(both)))
    for view in orbit(12):
        weights = RENDERER.lens(view, both.splats).weights(MIN_WEIGHT)
        shape = (len(weights.row_start) - 1, len(both))
        table = (weights.weight.numpy(), weights.splat.numpy(), weights.row_start.numpy())
        seen = sparse.csr_matrix(table, shape=shape, dtype=np.float64)
        shared = shared + seen.T @ seen
    means = both.splats.means.detach().numpy().astype(np.float64)
    tree = part_tree(both.splats, np.arange(len(both)), shared)
    piece = tree.pieces(means, 2)
    right = (piece == 1) == (both.labels == BALL).numpy()  # the ring has more splats
    assert right.mean() > 0.97


@pytest.fixture
def divided() -> LabelledSplats:
    """The ball with two parts, 11 and 12, of which 12 has parts 21 and 22; it hides 20 splats."""
    whole = ball_in_ring()
    inside = ball((0.0, 0.0, 0.2), 0.05, 20)
    parts = {0: inside, **{n: whole.of(n).splats for n in (BALL, RING, WALL)}}
    objects = labelled(parts, dict(whole.names))
    hidden = torch.where(objects.labels == 0, BALL, 0)
    objects = dataclasses.replace(objects, hidden=hidden)
    upper = (objects.of(BALL).splats.means[:, 2] > 0).long()
    file, digest = "edits/parts-0123456789ab.npz", ""
    once = with_parts(objects, edits.Parts(BALL, (11, 12), file, digest), upper)
    right = (once.of(12).splats.means[:, 0] > 0).long()
    return with_parts(once, edits.Parts(12, (21, 22), file, digest), right)


def test_parts_know_their_whole(divided: LabelledSplats) -> None:
    assert divided.numbers() == [2, 7, 11, 21, 22]
    assert divided.parents == {11: BALL, 12: BALL, 21: 12, 22: 12}
    assert divided.names[22] == "ball part 2 part 2"
    assert lineage(divided, 22) == [BALL, 12, 22] and lineage(divided, RING) == [RING]
    assert parts_of(divided, BALL) == [11, 21, 22] and parts_of(divided, RING) == [RING]
    assert divided.hidden is not None  # they lie in the upper half
    assert set(divided.hidden[divided.labels == 0].tolist()) <= {21, 22}


def test_objects_are_read_at_a_level(divided: LabelledSplats) -> None:
    assert at_level(divided, 0).numbers() == [BALL, RING, WALL]
    assert at_level(divided, 1).numbers() == [RING, WALL, 11, 12]
    assert torch.equal(at_level(divided, 2).labels, divided.labels)
    flat = at_level(divided, 0)
    assert flat.parents == {} and flat.hidden is not None
    assert set(flat.hidden[flat.labels == 0].tolist()) == {BALL}
    assert at_level(divided, 1).parents == {11: BALL, 12: BALL}


def test_removing_a_part_leaves_the_others_their_whole(divided: LabelledSplats) -> None:
    after = apply_edit(divided, edits.Remove((11,)))
    assert after.parents == {12: BALL, 21: 12, 22: 12} and after.names[BALL] == "ball"
    assert lineage(after, 21) == [BALL, 12, 21]
    gone = apply_edit(after, edits.Remove((21, 22)))
    assert gone.parents == {} and gone.names == {RING: "ring"}
    assert 0 not in gone.labels, "what they hid is gone with them"


def test_a_copy_of_a_part_is_no_part(divided: LabelledSplats) -> None:
    motion = edits.Motion((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    after = apply_edit(divided, edits.Copy((21, 22), (31, 32), motion))
    assert parts_of(after, BALL) == [11, 21, 22] and lineage(after, 31) == [31]


@pytest.mark.parametrize(
    ("edit", "piece"),
    [
        (edits.Parts(5, (11, 12), "edits/parts-0123456789ab.npz", ""), [0, 1]),
        (edits.Parts(BALL, (11, 12), "edits/parts-0123456789ab.npz", ""), [0, 1]),
        (edits.Parts(BALL, (11, 12), "edits/parts-0123456789ab.npz", ""), [0] * 300),
        (edits.Parts(BALL, (11, RING), "edits/parts-0123456789ab.npz", ""), [0, 1] * 150),
    ],
)
def test_parts_of_something_else_are_refused(edit: edits.Parts, piece: list[int]) -> None:
    with pytest.raises(ValueError):
        with_parts(ball_in_ring(), edit, torch.tensor(piece))
