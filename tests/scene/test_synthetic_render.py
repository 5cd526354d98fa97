# SPDX-License-Identifier: Apache-2.0
"""The ray caster against casts without any culling, and the room's own promises."""

from __future__ import annotations

import numpy as np
import pytest

from arguments.synthetic import FEWEST_OBJECTS, MOST_OBJECTS, SyntheticParams
from scene.synthetic.light import (
    LAMP_CORNERS,
    LAMP_HALF,
    board_cover,
    lamp_light,
    lamp_seen,
    sky_light,
    to_display,
)
from scene.synthetic.parts import Part, turned
from scene.synthetic.render import (
    Picture,
    Viewpoint,
    contrast,
    pixel_rays,
    render_view,
    surfaces,
    trace,
)
from scene.synthetic.room import Room, build_room
from scene.synthetic.shapes import Box
from scene.synthetic.textures import PATTERNS, Texture, albedo
from scene.synthetic.writer import place_cameras

Array = np.ndarray


@pytest.fixture(scope="module")
def room() -> Room:
    return build_room(5, 24)


@pytest.fixture(scope="module")
def view() -> Viewpoint:
    return place_cameras(SyntheticParams("", seed=5, width=96, height=72, views=8))[5]


@pytest.fixture(scope="module")
def picture(room: Room, view: Viewpoint) -> Picture:
    return render_view(room, view)


def bare_hits(room: Room, origins: Array, directions: Array) -> tuple[Array, Array]:
    """Distance and instance id, every solid met by every ray, the shell as six planes."""
    origins = np.broadcast_to(origins, directions.shape)
    best = np.full(directions.shape[1], np.inf)
    label = np.zeros(directions.shape[1], int)
    planes = (
        (2, 0.0, 0),
        (1, room.half, 1),
        (0, -room.half, 2),
        (1, -room.half, 3),
        (0, room.half, 4),
        (2, room.height, 5),
    )
    for axis, level, face in planes:
        t = (level - origins[axis]) / directions[axis]
        closer = (t > 1e-6) & (t < best)
        best[closer], label[closer] = t[closer], room.shell_ids[face]
    for solid in room.parts:
        local = solid.rotation.T @ (origins - solid.position[:, None])
        t = solid.shape.intersect(local, solid.rotation.T @ directions)
        closer = t < best
        best[closer], label[closer] = t[closer], solid.thing
    return best, label


def test_culling_loses_no_hit(room: Room, view: Viewpoint, picture: Picture) -> None:
    rows, columns = (g.ravel() + 0.5 for g in np.mgrid[:72, :96])
    directions = pixel_rays(view, columns, rows)
    distance, label = bare_hits(room, view.center[:, None], directions)
    assert np.allclose(trace(room, view.center[:, None], directions).distance, distance, atol=1e-9)
    assert (picture.labels.ravel() == label).mean() > 0.9995  # edges that two parts share


def test_shadows_without_culling(room: Room, picture: Picture) -> None:
    some = slice(None, None, 9)
    points = (picture.points.reshape(-1, 3) + 1e-3 * picture.normals.reshape(-1, 3))[some].T
    facing = (room.light[:, None] - points) * picture.normals.reshape(-1, 3)[some].T
    points = points[:, facing.sum(axis=0) > 0].astype(np.float64)
    seen = np.zeros(points.shape[1])
    for x in (-1, 1):
        for y in (-1, 1):
            ray = (room.light + LAMP_HALF * np.array([x, y, 0.0]))[:, None] - points
            length = np.linalg.norm(ray, axis=0)
            seen += 0.25 * (bare_hits(room, points, ray / length)[0] >= length)
    found = lamp_seen(room, points)
    assert np.abs(found - seen).max() == 0
    assert 0.05 < (found < 1).mean() < 0.95


def test_points_that_take_turns_see_the_lamps_corners_one_by_one(
    room: Room, picture: Picture
) -> None:
    points = (picture.points.reshape(-1, 3) + 1e-3 * picture.normals.reshape(-1, 3))[::7].T
    points = points.astype(np.float64)
    alone = [lamp_seen(room, points, np.full(points.shape[1], c)) for c in range(LAMP_CORNERS)]
    assert np.array_equal(np.mean(alone, axis=0), lamp_seen(room, points))
    assert set(np.unique(alone)) == {0.0, 1.0}
    turn = np.arange(points.shape[1]) % LAMP_CORNERS
    assert np.array_equal(lamp_seen(room, points, turn), np.choose(turn, alone))


@pytest.mark.parametrize("samples", [2, 3])
def test_shared_light_is_that_of_every_ray(room: Room, view: Viewpoint, samples: int) -> None:
    """Against the same rays with all corners of the lamp and a sky of their own."""
    found = render_view(room, view, samples=samples).color.reshape(-1, 3)
    rows, columns = (g.ravel() + 0.5 for g in np.mgrid[:72, :96])
    steps = (np.arange(samples) + 0.5) / samples - 0.5
    mean = np.zeros((3, rows.size))
    for down in steps:
        for right in steps:
            directions = pixel_rays(view, columns + right, rows + down)
            hits = trace(room, view.center[:, None], directions)
            points = view.center[:, None] + hits.distance * directions
            normals, colors, _ = surfaces(room, points, hits.surface)
            light = lamp_light(room, points, normals)
            light = light + sky_light(room, points, normals, hits.surface)
            mean += colors * light / samples**2
    there = to_display(mean).T
    rough = render_view(room, view, samples=1).color.reshape(-1, 3)
    again = (found != rough).any(axis=1)  # the pixels that were sampled again
    off, without = np.abs(found - there)[again], np.abs(rough - there)[again]
    assert off.mean() < 1 / 255 and off.mean() < 0.15 * without.mean()
    assert abs((found - there)[again].mean()) < 1e-3


def test_geometry_is_that_of_the_camera(room: Room, view: Viewpoint, picture: Picture) -> None:
    matrix = view.world_to_view
    local = picture.points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    u = view.focal * local[:, 0] / local[:, 2] + view.width / 2
    v = view.focal * local[:, 1] / local[:, 2] + view.height / 2
    rows, columns = np.mgrid[:72, :96] + 0.5
    assert np.abs(u - columns.ravel()).max() < 1e-3 and np.abs(v - rows.ravel()).max() < 1e-3
    assert np.allclose(local[:, 2], picture.depth.ravel(), atol=1e-4)
    assert np.allclose(np.linalg.norm(picture.normals, axis=2), 1.0, atol=1e-5)
    away = ((picture.points - view.center) * picture.normals).sum(axis=2)
    assert (away <= 1e-4).all()
    assert set(np.unique(picture.labels)) <= set(room.names)
    assert picture.color.min() >= 0 and picture.color.max() <= 1


def test_anti_aliasing_is_the_mean_of_many_rays(room: Room, view: Viewpoint) -> None:
    """A picture cast at five times the size and averaged agrees, and one without it does not."""
    small = Viewpoint("", view.world_to_view, 0.9 * 36, 48, 36)
    large = Viewpoint("", view.world_to_view, 0.9 * 180, 240, 180)
    fine = render_view(room, large, samples=1).color.reshape(36, 5, 48, 5, 3).mean(axis=(1, 3))
    smooth = np.abs(render_view(room, small, samples=5).color - fine).mean()
    rough = np.abs(render_view(room, small, samples=1).color - fine).mean()
    assert smooth < 0.01 and smooth < 0.5 * rough


def test_contrast_marks_both_sides_and_no_more() -> None:
    color = np.zeros((3, 6, 8))
    color[:, :, 4:] = 1.0
    step = contrast(color, np.zeros((6, 8), int))
    assert (step[:, 3:5] == 1).all() and step.sum() == 12
    labels = np.zeros((6, 8), int)
    labels[2, 2] = 1
    assert np.isinf(contrast(np.zeros((3, 6, 8)), labels)).sum() == 9


@pytest.mark.parametrize("kind", PATTERNS)
def test_textures_are_colours_and_patterns_vary(kind: str) -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 4000))
    colors = albedo(Texture(kind, (0.2, 0.3, 0.1), (0.8, 0.7, 0.6), 0.1), points)
    assert colors.min() > 0 and colors.max() < 1
    assert np.array_equal(
        colors, albedo(Texture(kind, (0.2, 0.3, 0.1), (0.8, 0.7, 0.6), 0.1), points)
    )
    assert colors.std(axis=1).min() > (0.005 if kind == "plain" else 0.03)


def test_board_hides_the_share_of_the_sky_that_sampling_finds() -> None:
    board = Part(
        Box((0.8, 0.5, 0.001)),
        Texture("plain", (0, 0, 0), (0, 0, 0)),
        turned(z=0.4),
        np.array([0.1, 0.2, 0.7]),
    )
    rng = np.random.default_rng(1)
    turn, away = 2 * np.pi * rng.uniform(size=200_000), np.sqrt(rng.uniform(size=200_000))
    rays = np.stack([away * np.cos(turn), away * np.sin(turn), np.sqrt(1 - away**2)])  # by cosine
    for spot in ([0.0, 0.0, 0.0], [0.9, -0.4, 0.1], [2.0, 1.0, 0.0], [0.1, 0.2, 0.9]):
        at = np.array(spot)[:, None]
        local = board.rotation.T @ (at - board.position[:, None])
        hit = np.isfinite(board.shape.intersect(local, board.rotation.T @ rays)).mean()
        assert board_cover(board, at)[0] == pytest.approx(hit, abs=0.01)


@pytest.mark.parametrize("objects", [FEWEST_OBJECTS, 15, 24, 30, MOST_OBJECTS])
def test_rooms_hold_what_was_asked(objects: int) -> None:
    for seed in range(4):
        room = build_room(seed, objects)
        names = list(room.names.values())
        assert len(names) == objects + 6 and len(set(names)) == len(names)
        assert {p.thing for p in room.parts} == set(range(6, 6 + objects))
        assert {"ring", "arch", "stick", "top ball", "tall box", "table"} <= set(names)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_stands_in_a_camera_or_in_a_wall(seed: int) -> None:
    room = build_room(seed, MOST_OBJECTS)
    for view in place_cameras(SyntheticParams("", seed=seed)):
        directions = np.random.default_rng(seed).standard_normal((3, 500))
        directions /= np.linalg.norm(directions, axis=0)
        assert trace(room, view.center[:, None], directions).distance.min() > 0.2
    for solid in room.parts:
        corners = np.stack(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1) * solid.shape.radius
        inside = (
            corners[:, :0]
            if not isinstance(solid.shape, Box)
            else (np.array(solid.shape.half)[:, None] * np.sign(corners))
        )
        world = solid.rotation @ inside + solid.position[:, None]
        assert (np.abs(world[:2]) <= room.half + 1e-9).all() and (world[2] >= -1e-9).all()
        assert np.abs(solid.position[:2]).max() < room.half


def test_other_seeds_are_other_rooms() -> None:
    one, again, other = build_room(1, 24), build_room(1, 24), build_room(2, 24)
    assert all(
        np.array_equal(a.position, b.position) and a.shape == b.shape and a.texture == b.texture
        for a, b in zip(one.parts, again.parts, strict=True)
    )
    assert [p.shape for p in one.parts] != [p.shape for p in other.parts]
    with pytest.raises(ValueError, match="objects"):
        build_room(0, 3)
