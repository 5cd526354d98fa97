# SPDX-License-Identifier: Apache-2.0
"""Association on hand-made scenes: every fault of a tracker is undone, and nothing else is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

from iqgs.association import (
    DrawnTracks,
    LiftedMasks,
    MaskView,
    associate,
    draw_tracks,
    drop_rare,
    given_start,
    graph_starts,
    lift,
    name_tracks,
    refine,
    relabel,
    track_labels,
)
from iqgs.association.start import LEAST_IOU, Overlaps, overlaps
from tests.association.worlds import Labels, World, make_world, plate_and_stick, tiles


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(tiles, views=30, window=0.75)


def repaired(
    world: World, maps: list[Labels], start: str = "given", zero: bool = True
) -> tuple[list[Labels], LiftedMasks, np.ndarray]:
    """(label maps after the repair, masks, tracks)."""
    views = world.views(maps)
    masks = lift(views, len(world.objects), zero)
    tracks = refine(masks, given_start(masks) if start == "given" else graph_starts(masks)[0])
    tracks = drop_rare(tracks)
    names = name_tracks(masks, tracks.track)
    splats = track_labels(masks, tracks.track)
    done = []
    for number, (view, labels) in enumerate(zip(views, maps, strict=True)):
        flat = draw_tracks(view.weights, splats, tracks.count)
        drawn = DrawnTracks(flat.track.reshape(labels.shape), flat.share.reshape(labels.shape))
        done.append(relabel(labels, number, masks, tracks, names, drawn).label_map)
    return done, masks, tracks.track


def wrong_share(found: list[Labels], truth: list[Labels]) -> float:
    """Share of wrong labels among pixels that have one."""
    said = [(f, t) for f, t in zip(found, truth, strict=True)]
    return float(
        sum(((f >= 0) & (f != t)).sum() for f, t in said) / sum((f >= 0).sum() for f, _ in said)
    )


def purity(world: World, maps: list[Labels], masks: LiftedMasks, track: np.ndarray) -> float:
    """Share of masks whose track is mainly of their own object."""
    true = np.array(
        [
            np.bincount(world.truth[v][maps[v] == i].ravel()).argmax()
            for v, i in zip(masks.view, masks.ids, strict=True)
        ]
    )
    inside = track >= 0
    main = {k: np.bincount(true[track == k]).argmax() for k in np.unique(track[inside])}
    return float(np.mean([main[k] == t for k, t in zip(track[inside], true[inside], strict=True)]))


def copies(world: World) -> list[Labels]:
    return [labels.copy() for labels in world.truth]


def test_masks_that_agree_are_left_alone(world: World) -> None:
    found, masks, track = repaired(world, world.truth)
    changed = sum((f != t).sum() for f, t in zip(found, world.truth, strict=True))
    assert changed <= 0.001 * sum(t.size for t in world.truth)
    assert purity(world, world.truth, masks, track) == 1.0
    assert len(np.unique(track)) == len(world.ids) == 9


def test_a_broken_track_is_one_again_under_its_first_id(world: World) -> None:
    for new in (50, 0):  # 0: numbers below the old one must not be favoured
        maps = [labels + 10 * (labels > 0) for labels in world.truth]
        truth = copies(world)
        number = 50 if new else 3
        for view in range(15, len(maps)):
            maps[view][world.truth[view] == 5] = number
        for labels in truth:
            labels[labels > 0] += 10
        found, masks, track = repaired(world, maps)
        assert wrong_share(found, truth) == 0.0
        assert len(np.unique(track)) == 9


def test_an_object_that_leaves_and_comes_back_keeps_one_id(world: World) -> None:
    maps = copies(world)
    for view, labels in enumerate(maps):
        if view % 3 == 2:
            labels[labels == 4] = 0  # out of the tracker's sight
        elif view > 5:
            labels[labels == 4] = 20 + view // 6
    found, _, _ = repaired(world, maps)
    assert wrong_share(found, world.truth) < 0.01  # also filled in where it was lost


def test_switched_ids_are_put_right(world: World) -> None:
    rng = np.random.default_rng(1)
    maps = copies(world)
    for labels, truth in zip(maps, world.truth, strict=True):
        here = [int(i) for i in np.unique(truth) if i]
        if len(here) > 2:
            one, two = rng.choice(here, 2, replace=False)
            labels[truth == one], labels[truth == two] = two, one
    assert wrong_share(maps, world.truth) > 0.12
    found, masks, track = repaired(world, maps)
    assert wrong_share(found, world.truth) < 0.01
    assert purity(world, maps, masks, track) >= 0.98


def test_parts_with_ids_of_their_own_join_their_object(world: World) -> None:
    maps = copies(world)
    for view in range(0, len(maps), 2):
        halves = maps[view].copy()
        halves[:, ::1][:, : halves.shape[1] // 2] = 0
        maps[view][(world.truth[view] == 5) & (halves > 0)] = 60
    found, _, track = repaired(world, maps)
    assert wrong_share(found, world.truth) < 0.02
    assert len(np.unique(track[track >= 0])) == 9


def test_missing_masks_are_filled_in_only_where_0_is_background(world: World) -> None:
    rng = np.random.default_rng(2)
    maps = copies(world)
    lost = []
    for labels in maps:
        number = int(rng.choice([i for i in np.unique(labels) if i]))
        lost.append(labels == number)
        labels[labels == number] = 0
    found, _, _ = repaired(world, maps)
    back = np.mean(
        [(f == t)[where].mean() for f, t, where in zip(found, world.truth, lost, strict=True)]
    )
    assert back > 0.9
    untouched, _, _ = repaired(world, maps, zero=False)
    assert all((f[where] == 0).all() for f, where in zip(untouched, lost, strict=True))


def test_a_mask_that_swallowed_its_neighbour_gives_it_back(world: World) -> None:
    maps = copies(world)
    for view in range(1, len(maps), 4):
        maps[view][maps[view] == 2] = 1
    found, _, _ = repaired(world, maps)
    assert wrong_share(found, world.truth) < 0.02


def test_a_mask_that_contradicts_the_others_enters_no_loss(world: World) -> None:
    maps = copies(world)
    maps[3][:, ::2] = 9  # stripes over everything, in the name of object 9
    found, _, _ = repaired(world, maps)
    stripes = found[3][:, ::2]
    assert (stripes == 9).mean() < 0.2


def test_fresh_ids_in_every_view_become_tracks(world: World) -> None:
    rng = np.random.default_rng(3)
    maps = []
    for truth in world.truth:
        numbers = np.concatenate([[0], 1 + rng.permutation(9)])
        maps.append(numbers[truth])
    found, masks, track = repaired(world, maps, start="graph")
    assert purity(world, maps, masks, track) == 1.0
    together = np.stack([np.concatenate([f.ravel() for f in found]),
                         np.concatenate([t.ravel() for t in world.truth])])  # fmt: skip
    pairs = np.unique(together[:, together[0] >= 0], axis=1)
    assert pairs.shape[1] == 10  # one name an object, and 0 for 0


@pytest.mark.parametrize("start", ["given", "graph"])
def test_a_thin_object_on_a_large_one_survives(start: str) -> None:
    world = make_world(plate_and_stick, splats=9000)
    found, _, track = repaired(world, world.truth, start=start)
    assert len(np.unique(track)) == 2
    if start == "given":
        assert wrong_share(found, world.truth) < 0.001


def test_two_look_alikes_side_by_side_stay_two() -> None:
    def twins(points: np.ndarray) -> Labels:
        inside = np.abs(points[:, 1] - 0.5) < 0.2
        return np.where(inside, np.where(points[:, 0] < 0.5, 1, 2), 0)

    world = make_world(twins)
    rng = np.random.default_rng(4)
    maps = [np.concatenate([[0], 1 + rng.permutation(2)])[t] for t in world.truth]
    _, masks, track = repaired(world, maps, start="graph")
    assert len(np.unique(track)) == 2 and purity(world, maps, masks, track) == 1.0


def test_lifting_is_the_loop_over_pixels() -> None:
    world = make_world(tiles, views=3, splats=300)
    masks = lift(world.views(world.truth), 300, True)
    dense = [w.toarray() for w in world.weights]
    for m in range(len(masks)):
        inside = (world.truth[masks.view[m]] == masks.ids[m]).ravel()
        expected = dense[masks.view[m]][inside].sum(0)
        np.testing.assert_allclose(masks.inside[:, m].toarray().ravel(), expected, atol=1e-5)
        assert masks.area[m] == inside.sum()
    zero = sum(d[(t == 0).ravel()].sum(0) for d, t in zip(dense, world.truth, strict=True))
    np.testing.assert_allclose(masks.zero, zero, atol=1e-4)
    total = np.stack([d.sum(0) for d in dense], 1)
    np.testing.assert_allclose(masks.visible.toarray(), total, atol=1e-4)
    assert not lift(world.views(world.truth), 300, False).zero.any()


def test_pixels_that_nobody_labelled_belong_to_no_mask() -> None:
    world = make_world(tiles, views=4, splats=500)
    maps = copies(world)
    for labels in maps:
        labels[:, :10] = -1
    found, masks, _ = repaired(world, maps)
    assert (masks.ids > 0).all()
    assert all((f[:, :10] == -1).all() for f in found)


def greedy(found: Overlaps) -> np.ndarray:
    """Average linkage one merge after the other, over dense matrices."""
    count = len(found.view)
    link = np.zeros((count, count))
    for a, b in itertools.permutations(range(count), 2):
        link[a, b] = found.link_weight(np.array([a]), np.array([b]))[0]
    shared = found.iou.toarray().astype(np.float64)
    clusters = [[m] for m in range(count)]
    while True:
        best, pair = -1.0, None
        for i, j in itertools.combinations(range(len(clusters)), 2):
            block = np.ix_(clusters[i], clusters[j])
            weight = link[block].sum()
            mean = shared[block].sum() / weight if weight > 0 else 0.0
            if mean > best + 1e-12:
                best, pair = mean, (i, j)
        if pair is None or best < LEAST_IOU:
            break
        clusters[pair[0]] += clusters.pop(pair[1])
    label = np.zeros(count, np.int64)
    for number, members in enumerate(clusters):
        label[members] = number
    return label


@pytest.mark.parametrize("seed", range(3))
def test_merging_all_mutual_neighbours_at_once_is_merging_one_by_one(seed: int) -> None:
    world = make_world(tiles, views=7, splats=800, seed=seed)
    rng = np.random.default_rng(seed)
    maps = []
    for truth in world.truth:  # noisy masks, so that overlaps of all sizes occur
        shifted = np.roll(truth, rng.integers(-4, 5, 2), (0, 1))
        maps.append(np.concatenate([[0], 1 + rng.permutation(9)])[shifted])
    masks = lift(world.views(maps), 800, True)
    ours, slow = graph_starts(masks)[0], greedy(overlaps(masks))
    assert len(np.unique(ours)) == len(np.unique(slow))
    assert len(np.unique(np.stack([ours, slow]), axis=1).T) == len(np.unique(slow))


def test_overlap_is_counted_over_what_both_views_see() -> None:
    """Two views of a strip of ten splats: the second sees the right half only."""
    eye = sparse.identity(10, dtype=np.float32, format="csr")
    half = sparse.csr_matrix(eye[5:])
    views = [MaskView(eye, np.array([1] * 8 + [2] * 2)), MaskView(half, np.array([4] * 5))]
    masks = lift(views, 10, True)
    assert masks.ids.tolist() == [1, 4]  # two pixels are no mask
    found = overlaps(masks)
    # Mask 1 in the second view's sight: splats 5, 6, 7. Mask 4 in the first's: 5 to 9.
    link = float(found.link_weight(np.array([0]), np.array([1]))[0])
    assert link == pytest.approx(3**0.5)
    assert found.iou[0, 1] == pytest.approx(link * 3 / 5)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected weights"):
        lift([MaskView(sparse.csr_matrix((4, 3), dtype=np.float32), np.zeros((2, 3)))], 3, True)
    with pytest.raises(ValueError, match="at least one view"):
        lift([], 3, True)


def test_ids_that_mean_nothing_are_found_out(world: World) -> None:
    rng = np.random.default_rng(8)
    fresh = [np.concatenate([[0], 1 + rng.permutation(9)])[truth] for truth in world.truth]
    count = len(world.objects)
    assert associate(world.views(world.truth), count, True).start == "given"
    found = associate(world.views(fresh), count, True)
    assert found.start == "graph" and found.tracks.count == 9
    assert found.names.tolist() == list(range(1, 10)) and (found.confidence > 0.9).all()
    assert associate(world.views(fresh), count, True, "given").kept_ids < 0.6
    with pytest.raises(ValueError, match="start must be one of"):
        associate(world.views(fresh), count, True, "ids")


def test_slips_that_a_tracker_makes_more_than_once_are_no_objects(world: World) -> None:
    """In four views half of an object goes by another id, always the same."""
    maps = copies(world)
    slips = [v for v in range(len(maps)) if (maps[v] == 5).sum() > 60][:4]
    for view in slips:
        rows = np.flatnonzero((maps[view] == 5).any(1))
        half = maps[view][: int(rows.mean())]
        half[half == 5] = 77
    found = associate(world.views(maps), len(world.objects), True)
    assert sorted(found.names.tolist()) == list(range(1, 10))


def test_an_object_that_leaves_and_returns_keeps_its_id(world: World) -> None:
    maps = copies(world)
    shown = [v for v in range(len(maps)) if (maps[v] == 3).any()]
    for view in shown[len(shown) // 2 :]:  # gone for a while, then seen again as somebody new
        maps[view][maps[view] == 3] = 41
    for view in shown[len(shown) // 3 : len(shown) // 2]:
        maps[view][maps[view] == 3] = 0
    found = associate(world.views(maps), len(world.objects), True)
    names = {
        int(found.names[t])
        for t, number in zip(found.tracks.track, found.masks.ids, strict=True)
        if number in (3, 41) and t >= 0
    }
    assert names == {3}


def test_an_id_of_which_others_carry_a_few_masks_still_names_its_own() -> None:
    """Id 8 was track 0's before the tracker lost it; it slipped to two others three times."""
    ids = np.array([8] * 4 + [20] * 9 + [1] * 9 + [8] * 2 + [2] * 9 + [8])
    track = np.array([0] * 13 + [1] * 11 + [2] * 10)
    view = np.concatenate([np.arange(13), np.arange(11), np.arange(10)])
    order = np.lexsort((track, view))
    nothing = sparse.csc_matrix((1, len(ids)), dtype=np.float32)
    masks = LiftedMasks(
        nothing, sparse.csc_matrix((1, 13), dtype=np.float32), np.zeros(1, np.float32),
        view[order], ids[order], np.ones(len(ids), np.int64),
    )  # fmt: skip
    assert name_tracks(masks, track[order]).tolist() == [8, 1, 2]
