# SPDX-License-Identifier: Apache-2.0
"""Depth that is wrong by a known amount comes back to that of textured balls and floors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from iqgs.export.mesh.stereo import (
    Search,
    aggregated,
    best_shift,
    neighbours_of,
    pure_share,
    refined_depth,
    refined_views,
    smoothed,
    windowed,
)
from iqgs.export.mesh.views import DepthView
from scene.cameras import Camera
from utils.geometry import look_at

WIDTH, HEIGHT, FOCAL, DISTANCE = 80, 60, 70.0, 3.0
MIDDLE, RADIUS, LEVEL = np.array([0.1, 0.0, 0.0]), 0.55, -0.6  # a ball (2) over a floor (1)
WRONG = 1.06  # the depth that is given is 6 % too large, that is 18 cm


def texture(points: np.ndarray) -> np.ndarray:
    """Grey values [N] in 0..1 at points [N, 3], without detail finer than some pixels."""
    waves = np.array([[9, 2, 4], [-3, 11, 5], [5, -7, 8], [2, 13, -6], [14, 3, 1]], float)
    return 0.5 + 0.1 * np.sin(points @ waves.T + np.arange(5)).sum(axis=1)


def seen(index: int) -> DepthView:
    """The exact view of a camera on a ring."""
    turn = 2 * np.pi * index / 24
    direction = np.array([np.cos(turn), np.sin(turn), 0.8])
    up = np.array([0.0, 0.0, 1.0])
    pose = look_at(DISTANCE * direction / np.linalg.norm(direction), np.zeros(3), up)
    size = (WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    camera = Camera(torch.from_numpy(pose), FOCAL, FOCAL, *size, name=f"{index}", uid=index)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = torch.from_numpy(np.stack([columns.ravel(), rows.ravel()], 1) + 0.5)
    rays, start = camera.ray_directions(pixels).numpy(), camera.center.numpy()
    floor = np.where(rays[:, 2] < 0, (LEVEL - start[2]) / np.minimum(rays[:, 2], -1e-9), np.inf)
    along = rays @ (MIDDLE - start)
    inside = along**2 - ((MIDDLE - start) ** 2).sum() + RADIUS**2
    ball = np.where(inside > 0, along - np.sqrt(np.maximum(inside, 0)), np.inf)
    distance = np.minimum(floor, ball)
    labels = np.where(ball < floor, 2, 1)
    grey = texture(start + np.minimum(distance, 99.0)[:, None] * rays)
    shape = (HEIGHT, WIDTH)
    return DepthView(
        camera,
        torch.from_numpy((distance * (rays @ camera.forward.numpy())).reshape(shape)).float(),
        torch.from_numpy((grey * 255).round().astype(np.uint8).reshape(shape)).expand(3, *shape),
        torch.from_numpy(labels.reshape(shape)),
    )


def moved(view: DepthView, share: float) -> DepthView:
    return replace(view, depth=view.depth * share)


def inner(view: DepthView, number: int) -> Tensor:
    """Pixels whose whole window is of an object."""
    assert view.labels is not None
    return (view.labels == number) & (pure_share(view.labels, 3) == 1)


def off(depth: Tensor, view: DepthView, number: int) -> Tensor:
    """Share of the true depth by which a depth is wrong, inside of an object."""
    there = inner(view, number)
    assert there.sum() > 100
    return depth[there] / view.depth[there] - 1


@pytest.mark.parametrize("share", [WRONG, 1 / WRONG])
def test_pictures_put_depth_right(share: float) -> None:
    """Too far or too near, on the slanted floor and on the ball that hides some of it."""
    true = [seen(index) for index in range(9)]
    refined = refined_views([moved(view, share) for view in true], Search())
    found = [next(refined) for _ in range(2)]  # cheaper than all
    for number in (1, 2):
        pairs = zip(found, true[:2], strict=True)
        errors = torch.cat([off(mine.depth, exact, number) for mine, exact in pairs])
        assert errors.abs().median() < 0.15 * (WRONG - 1)
        assert errors.abs().mean() < 0.35 * (WRONG - 1)
    assert found[1].camera is true[1].camera and found[1].labels is not None


def test_right_depth_stays() -> None:
    true = [seen(index) for index in range(7)]
    found = refined_depth(true[3], [true[k] for k in (1, 2, 4, 5)], Search())
    for number in (1, 2):
        assert off(found, true[3], number).abs().median() < 0.1 * (WRONG - 1)


def test_depth_of_plain_things_stays() -> None:
    """Where pictures say nothing the depth is kept."""
    true = [seen(index) for index in range(7)]
    grey = [replace(view, color=torch.full_like(view.color, 90)) for view in true]  # type: ignore[arg-type]
    given = [moved(view, WRONG) for view in grey]
    found = refined_depth(given[3], [given[k] for k in (1, 2, 4, 5)], Search())
    for number in (1, 2):
        changed = off(found, given[3], number).abs()
        assert changed.max() < 0.1 * (WRONG - 1) and changed.median() < 2e-3


def test_what_has_no_depth_keeps_none() -> None:
    true = [seen(index) for index in range(5)]
    holes = true[2].depth.clone()
    holes[20:30, 30:40], holes[5:9, 5:9] = torch.inf, 0.0
    view = replace(true[2], depth=holes)
    found = refined_depth(view, [true[k] for k in (0, 1, 3, 4)], Search())
    assert torch.isinf(found[20:30, 30:40]).all() and (found[5:9, 5:9] == 0).all()
    assert torch.isfinite(found).sum() == torch.isfinite(holes).sum()
    alone = refined_depth(view, true[:1], Search())  # one neighbour is no proof
    assert torch.equal(alone, holes)
    with pytest.raises(ValueError, match="no colours"):
        refined_depth(replace(view, color=None), true[:2], Search())


def test_neighbours_see_the_same_things_under_useful_angles() -> None:
    """Of cameras 15 degrees apart on a ring (12 degrees as seen from the middle), those beside
    come before those opposite; a camera that looks elsewhere is nobody's.
    """
    views = [seen(index) for index in range(24)]
    away = views[0].camera.world_to_view.clone()
    away[:3] = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)) @ away[:3]
    lost = replace(views[0], camera=replace(views[0].camera, world_to_view=away))
    found = neighbours_of([*views, lost], 4)
    for index in range(24):
        assert {(k - index) % 24 for k in found[index]} == {1, 2, 22, 23}
    assert all(24 not in near for near in found)


def test_windows_are_those_of_another_library() -> None:
    image = np.random.default_rng(0).uniform(size=(20, 30)).astype(np.float32)
    mean = windowed(torch.from_numpy(image)[None, None], 2)[0, 0].numpy()
    np.testing.assert_allclose(mean[2:-2, 2:-2], uniform_filter(image, 5)[2:-2, 2:-2], atol=1e-5)
    np.testing.assert_allclose(mean[0, 0], image[:3, :3].mean(), atol=1e-6)
    region = np.random.default_rng(1).integers(0, 3, size=(20, 30))
    share = pure_share(torch.from_numpy(region), 2).numpy()
    assert share[7, 9] == pytest.approx((region[5:10, 7:12] == region[7, 9]).mean())


def test_medians_stop_at_objects() -> None:
    depth = torch.full((12, 12), 2.0)
    depth[:, 6:] = 5.0
    depth[3, 3] = 9.0
    region = (torch.arange(12) >= 6).long().expand(12, 12)
    found = smoothed(depth, region)
    assert found[3, 3] == 2.0 and (found[:, :6][depth[:, :6] == 2] == 2).all()
    assert (found[:, 6:] == 5).all()
    assert smoothed(depth, torch.full((12, 12), -1))[3, 3] == 9.0


def slow_costs(costs: np.ndarray, region: np.ndarray, small: float, large: float) -> np.ndarray:
    """Semi-global matching along four directions, pixel by pixel."""
    levels, height, width = costs.shape
    total = np.zeros_like(costs)
    for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        path = np.zeros_like(costs)
        for y in range(height)[:: -1 if down < 0 else 1]:
            for x in range(width)[:: -1 if across < 0 else 1]:
                path[:, y, x] = costs[:, y, x]
                v, u = y - down, x - across
                if not (0 <= v < height and 0 <= u < width) or region[v, u] != region[y, x]:
                    continue
                before = path[:, v, u]
                for k in range(levels):
                    ways = [before[k], before.min() + large]
                    ways += [before[j] + small for j in (k - 1, k + 1) if 0 <= j < levels]
                    path[k, y, x] += min(ways) - before.min()
        total += path
    return total


def test_costs_are_carried_as_by_the_slow_loop() -> None:
    rng = np.random.default_rng(2)
    costs, region = rng.uniform(size=(6, 7, 9)), rng.integers(0, 2, size=(7, 9))
    found = aggregated(torch.from_numpy(costs), torch.from_numpy(region), 0.1, 0.3)
    np.testing.assert_allclose(found.numpy(), slow_costs(costs, region, 0.1, 0.3), atol=1e-12)


def test_the_best_shift_lies_between_the_tried_ones() -> None:
    shifts = torch.linspace(-1, 1, 9).double()
    wanted = torch.tensor([[0.1, -0.43], [0.6, 0.0]]).double()
    costs = 3 * (shifts[:, None, None] - wanted) ** 2
    torch.testing.assert_close(best_shift(costs, shifts), wanted)
