# SPDX-License-Identifier: Apache-2.0
"""Light in the synthetic room: one lamp with exact shadows, and a sky with analytic occlusion.

Surfaces are matt, so the colour of a point does not depend on who looks.
"""

from __future__ import annotations

import numpy as np

from scene.synthetic.parts import Part, may_meet
from scene.synthetic.room import Room
from scene.synthetic.shapes import Box, Ellipsoid, Frustum, Shape, Torus, dot

Array = np.ndarray

LAMP = np.array([1.0, 0.9, 0.74])[:, None] * 16.0
SKY = np.array([0.66, 0.72, 0.82])[:, None]
GROUND = np.array([0.42, 0.36, 0.30])[:, None]
LAMP_HALF = 0.22  # the lamp is a square of this half edge, seen as its four corners: soft shadows
LAMP_CORNERS = 4
LAMP_RADIUS = 1.4143 * LAMP_HALF
LIFT = 1e-4  # metres above the surface from which shadow rays start
REACH = 4.0  # a solid dims the sky up to this many of its own sizes away
BOARD = 0.4  # boxes at least this long and flat dim the sky as rectangles


def to_display(linear: Array) -> Array:
    """Linear radiance to display RGB in 0..1: a soft shoulder, then the sRGB curve."""
    value = 1.0 - np.exp(-1.45 * linear)
    low, high = 12.92 * value, 1.055 * np.maximum(value, 1e-8) ** (1 / 2.4) - 0.055
    return np.where(value <= 0.0031308, low, high)


def lamp_light(room: Room, points: Array, normals: Array, corner: Array | None = None) -> Array:
    """Irradiance / pi [3, n] from the lamp; `corner` [n] as in `lamp_seen`."""
    to_lamp = room.light[:, None] - points
    square = dot(to_lamp, to_lamp)
    cosine = np.maximum(dot(to_lamp, normals), 0.0) / np.sqrt(square)
    lit = np.flatnonzero(cosine > 0)
    strength = np.zeros(points.shape[1])
    start = points[:, lit] + LIFT * normals[:, lit]
    seen = lamp_seen(room, start, None if corner is None else corner[lit])
    strength[lit] = cosine[lit] / (1.2 + square[lit]) * seen
    return LAMP * strength / np.pi


def lamp_seen(room: Room, points: Array, corner: Array | None = None) -> Array:
    """[n] fraction of the lamp's corners that nothing hides.

    With `corner` [n] each point asks one corner alone: points that lie together and take turns see
    the lamp's whole share between them (distribution ray tracing, Cook 1984).
    """
    shifts = LAMP_HALF * np.array([(x, y, 0.0) for x in (-1, 1) for y in (-1, 1)]).T
    chosen = np.arange(LAMP_CORNERS)[:, None] if corner is None else corner[None]
    chosen = np.broadcast_to(chosen, (len(chosen), points.shape[1]))
    hidden = np.zeros(chosen.shape, bool)
    axis = room.light[:, None] - points
    length = np.sqrt(dot(axis, axis))
    widening = LAMP_RADIUS / np.maximum(length - LAMP_RADIUS, LAMP_RADIUS)
    meets = may_meet(room.parts, points, axis / length, widening)
    for solid, close in zip(room.parts, meets, strict=True):
        near = np.flatnonzero(close)
        near = near[~hidden[:, near].all(axis=0)]
        if not near.size:
            continue
        turn = solid.rotation.T
        start = turn @ (points[:, near] - solid.position[:, None])
        ends = turn @ (room.light[:, None] + shifts - solid.position[:, None])
        rays = np.concatenate([ends[:, row] - start for row in chosen[:, near]], axis=1)
        far = np.sqrt(dot(rays, rays))
        met = solid.shape.intersect(np.tile(start, len(chosen)), rays / far) < far
        hidden[:, near] |= met.reshape(len(chosen), -1)
    return 1.0 - hidden.mean(axis=0)


def sky_light(room: Room, points: Array, normals: Array, surface: Array) -> Array:
    """Ambient light [3, n]: bluish from above, warm from below, dimmed by what is near."""
    up = 0.5 + 0.5 * normals[2]
    open_share = corner_share(room, points, normals)
    for index, solid in enumerate(room.parts):
        if is_board(solid.shape):
            open_share *= 1.0 - 0.75 * board_cover(solid, points) * up
        else:
            dim_by_ball(open_share, solid, points, normals, surface != index)
    return (GROUND + up * (SKY - GROUND)) * open_share * 0.5


def corner_share(room: Room, points: Array, normals: Array) -> Array:
    """[n] share of the sky left by the room's own planes: corners are darker."""
    share = np.ones(points.shape[1])
    x, y, z = points
    gaps = (
        (room.half - x, -normals[0]),
        (room.half + x, normals[0]),
        (room.half - y, -normals[1]),
        (room.half + y, normals[1]),
        (z, normals[2]),
    )
    for gap, facing in gaps:  # facing 1: the point is on the plane and looks away from it
        share *= 1.0 - 0.5 * (1.0 - facing) * 0.5 * np.exp(-np.maximum(gap, 0.0) / 0.3)
    return share


def is_board(shape: Shape) -> bool:
    return (
        isinstance(shape, Box)
        and max(shape.half) > BOARD
        and min(shape.half) < 0.1 * max(shape.half)
    )


def bulk(shape: Shape) -> float:
    """Radius of the ball that dims the sky as much as the shape, about."""
    if isinstance(shape, Box):
        small, middle, _ = sorted(shape.half)
        return min(1.15 * middle, 1.8 * small)
    if isinstance(shape, Ellipsoid):
        return float(np.prod(shape.radii)) ** (1 / 3)
    if isinstance(shape, Frustum):
        return min(0.5 * (shape.bottom + shape.top) * 1.1, 1.6 * shape.half_height)
    if isinstance(shape, Torus):
        return 1.5 * shape.minor
    return shape.radius


def dim_by_ball(share: Array, solid: Part, points: Array, normals: Array, others: Array) -> None:
    """Dim share [n] in place by the cosine-weighted cover of a ball about the solid's centre."""
    size = bulk(solid.shape)
    offset = solid.position[:, None] - points
    square = dot(offset, offset)
    near = np.flatnonzero((square < (REACH * size) ** 2) & others)
    if not near.size:
        return
    square = np.maximum(square[near], size * size)
    facing = np.maximum(dot(offset[:, near], normals[:, near]) / np.sqrt(square) + 0.15, 0.0) / 1.15
    fade = 1.0 - square / (REACH * size) ** 2
    share[near] *= 1.0 - 0.8 * np.minimum(facing * size * size / square, 1.0) * fade


def board_cover(solid: Part, points: Array) -> Array:
    """[n] share of the sky straight above that a level board hides: Lambert's polygon formula."""
    half = np.array(solid.shape.half)  # type: ignore[attr-defined]
    height = solid.position[2] - half[2] - points[2]
    cover = np.zeros(points.shape[1])
    below = np.flatnonzero(height > 1e-3)
    corners = [
        solid.rotation @ np.array([x * half[0], y * half[1], -half[2]]) + solid.position
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    rays = [c[:, None] - points[:, below] for c in corners]
    rays = [r / np.sqrt(dot(r, r)) for r in rays]
    for a, b in zip(rays, rays[1:] + rays[:1], strict=True):
        cosine = np.clip(dot(a, b), -1.0, 1.0)
        sine = np.sqrt(np.maximum(1.0 - cosine * cosine, 1e-18))
        cover[below] += np.arccos(cosine) / sine * (a[0] * b[1] - a[1] * b[0])
    return np.abs(cover) / (2 * np.pi)
