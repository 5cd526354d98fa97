# SPDX-License-Identifier: Apache-2.0
"""Sparse points in the place of splats: who sees them, and what that says about masks."""

from __future__ import annotations

import numpy as np
import pytest

from iqgs.association import associate, relabel
from iqgs.association.lift import MaskView
from iqgs.association.points import ProjectedPoints, point_weights, propagate

SIZE = 60


def ball_and_wall(view: int, tracked: bool) -> tuple[ProjectedPoints, np.ndarray, np.ndarray]:
    """A wall of three panels with a ball before it, seen from the side by `view`.

    (points, which of them are truly seen, true ids [H, W]).
    """
    rng = np.random.default_rng(0)
    wall = np.stack([rng.random(900) * 90 - 15, rng.random(900) * SIZE, np.full(900, 10.0)], 1)
    angle = rng.random(300) * 2 * np.pi
    radius = 8 * np.sqrt(rng.random(300))
    ball = np.stack([30 + radius * np.cos(angle), 30 + radius * np.sin(angle)], 1)
    shift = 3.0 * (view - 4)  # the ball is nearer: it moves in front of the wall
    front = np.concatenate([ball + [shift, 0], np.full((300, 1), 5.0)], 1)
    position = np.concatenate([wall, front])
    hidden = np.hypot(wall[:, 0] - 30 - shift, wall[:, 1] - 30) < 8
    seen = np.concatenate([~hidden, np.ones(300, bool)])
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    ids = 1 + (x // 20).astype(np.int64)
    ids[np.hypot(x - 30 - shift, y - 30) < 8] = 9
    observed = seen & (rng.random((9, len(seen)))[view] < 0.25) if tracked else np.zeros_like(seen)
    points = ProjectedPoints(position[:, :2], position[:, 2], observed, SIZE, SIZE)
    return points, seen & points.inside, ids


@pytest.mark.parametrize("tracked", [True, False])
def test_points_behind_others_are_not_propagated(tracked: bool) -> None:
    points, seen, _ = ball_and_wall(2, tracked)
    shown = propagate(points) | (points.observed & points.inside)
    wall_behind = ~seen & points.inside
    assert wall_behind.sum() > 20
    assert shown[wall_behind].mean() < (0.25 if tracked else 0.05)
    assert shown[seen].mean() > (0.9 if tracked else 0.7)


def test_points_outside_of_the_picture_and_behind_the_camera_are_not_seen() -> None:
    points, _, _ = ball_and_wall(4, False)
    behind = ProjectedPoints(points.pixels, -points.depth, points.observed, SIZE, SIZE)
    assert not propagate(behind).any()
    shown = propagate(points)
    assert not shown[~points.inside].any() and shown.any()


@pytest.mark.parametrize("tracked", [True, False])
def test_fresh_ids_are_joined_by_points(tracked: bool) -> None:
    rng = np.random.default_rng(1)
    views, maps, truths = [], [], []
    for number in range(9):
        points, _, ids = ball_and_wall(number, tracked)
        fresh = np.zeros(10, np.int64)
        fresh[[1, 2, 3, 9]] = rng.permutation(40)[:4] + 1
        weights, rows = point_weights(points, propagate(points))
        assert len(rows) == weights.shape[0] and rows.max() < SIZE * SIZE
        views.append(MaskView(weights, fresh[ids].reshape(-1)[rows]))
        maps.append(fresh[ids])
        truths.append(ids)
    found = associate(views, views[0].weights.shape[1], True, "graph")
    assert found.tracks.count == 4
    name: dict[int, int] = {}
    for number, (labels, truth) in enumerate(zip(maps, truths, strict=True)):
        done = relabel(labels, number, found.masks, found.tracks, found.names, None).label_map
        for value in (1, 2, 3, 9):
            here = np.unique(done[truth == value])
            assert len(here) == 1 and name.setdefault(value, int(here[0])) == here[0]
    assert len(set(name.values())) == 4
