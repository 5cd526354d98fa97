# SPDX-License-Identifier: Apache-2.0
"""Ray casting of the synthetic room: exact first hits, then light, then anti-aliasing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.synthetic.light import LAMP_CORNERS, lamp_light, sky_light, to_display
from scene.synthetic.parts import may_meet
from scene.synthetic.room import Room
from scene.synthetic.shapes import dot, unit
from scene.synthetic.textures import albedo

Array = np.ndarray

# Pixels whose display colour differs from a neighbour's by this much are sampled again: below it
# the averaged colour differs from the centre's by one or two 8-bit steps.
CONTRAST = 0.06
STRONG = 0.14  # below it one sample less per side is as good
ALIKE = 0.95  # cosine between normals to which the ambient light is the same
PIXELS_AT_ONCE = 8000  # bounds memory at any resolution, and keeps the arrays in the cache


@dataclass(frozen=True)
class Viewpoint:
    """A pinhole camera in COLMAP's convention (x right, y down, z forward, centre 0.5)."""

    name: str
    world_to_view: Array  # [4, 4]
    focal: float
    width: int
    height: int

    @property
    def center(self) -> Array:
        """[3] camera position."""
        return -self.world_to_view[:3, :3].T @ self.world_to_view[:3, 3]


@dataclass(frozen=True)
class Picture:
    """What a viewpoint sees: colour anti-aliased, the rest at pixel centres.

    Attributes:
        color: [H, W, 3] float32 display RGB in 0..1.
        labels: [H, W] int32 instance ids.
        depth: [H, W] float32 along the optical axis.
        points: [H, W, 3] float32 hits in the world.
        normals: [H, W, 3] float32 in the world.
    """

    color: Array
    labels: Array
    depth: Array
    points: Array
    normals: Array


@dataclass(frozen=True)
class Centers:
    """What is known of n pixels at their centres.

    Attributes:
        columns, rows: [n] pixel coordinates.
        surface: [n] as of `Hits`.
        normals: [3, n] in the world.
        sky: [3, n] ambient light.
    """

    columns: Array
    rows: Array
    surface: Array
    normals: Array
    sky: Array

    def part(self, pixels: slice, times: int) -> Centers:
        """Some of the pixels, all of them `times` one after the other."""
        values = (self.columns, self.rows, self.surface, self.normals, self.sky)
        return Centers(*(np.tile(value[..., pixels], times) for value in values))


@dataclass(frozen=True)
class Hits:
    """First hits of n rays: distance [n], surface [n] (part index, or len(parts) + shell face)."""

    distance: Array
    surface: Array


def pixel_rays(view: Viewpoint, columns: Array, rows: Array) -> Array:
    """[3, n] unit world directions through pixel coordinates (first pixel centre at 0.5)."""
    x = (columns - 0.5 * view.width) / view.focal
    y = (rows - 0.5 * view.height) / view.focal
    local = unit(np.stack([x, y, np.ones_like(x)]))
    return np.stack([dot(axis[:, None], local) for axis in view.world_to_view[:3, :3].T])


def trace(room: Room, origins: Array, directions: Array) -> Hits:
    """First surface met from origins [3, 1] or [3, n] along unit directions [3, n]."""
    distance, face = shell_hit(room, origins, directions)
    surface = len(room.parts) + face
    for index, (solid, close) in enumerate(
        zip(room.parts, may_meet(room.parts, origins, directions), strict=True)
    ):
        near = np.flatnonzero(close)
        if not near.size:
            continue
        start = origins if origins.shape[1] == 1 else origins[:, near]
        turn = solid.rotation.T
        t = solid.shape.intersect(
            turn @ (start - solid.position[:, None]), turn @ directions[:, near]
        )
        closer = t < distance[near]
        distance[near[closer]] = t[closer]
        surface[near[closer]] = index
    return Hits(distance, surface)


def shell_hit(room: Room, origins: Array, directions: Array) -> tuple[Array, Array]:
    """Distance [n] and face [n] (0 floor, 1..4 walls, 5 ceiling) from inside the room."""
    low = np.array([-room.half, -room.half, 0.0])[:, None]
    high = np.array([room.half, room.half, room.height])[:, None]
    safe = np.where(np.abs(directions) < 1e-15, 1e-15, directions)
    reach = np.where(safe > 0, high - origins, low - origins) / safe
    axis = np.argmin(reach, axis=0)
    distance = np.take_along_axis(reach, axis[None], axis=0)[0]
    positive = np.take_along_axis(safe, axis[None], axis=0)[0] > 0
    faces = np.array([[2, 4], [3, 1], [0, 5]])  # west, east; south, north; floor, ceiling
    return distance, faces[axis, positive.astype(int)]


def shell_frame(room: Room, face: int, points: Array) -> tuple[Array, Array]:
    """Texture coordinates [3, n] on a shell face and its inward normal [3]."""
    x, y, z = points
    flat = np.zeros_like(x)
    inward = {0: (0, 0, 1), 1: (0, -1, 0), 2: (1, 0, 0), 3: (0, 1, 0), 4: (-1, 0, 0), 5: (0, 0, -1)}
    across = {0: (x, y), 1: (x, z), 2: (y, z), 3: (x, z), 4: (y, z), 5: (x, y)}[face]
    return np.stack([across[0], across[1], flat]), np.array(inward[face], float)


def surfaces(room: Room, points: Array, surface: Array) -> tuple[Array, Array, Array]:
    """Normals [3, n], albedo [3, n] and instance ids [n] at hits."""
    normals, colors = np.empty_like(points), np.empty_like(points)
    labels = np.empty(points.shape[1], np.int32)
    order = np.argsort(surface, kind="stable")
    present, starts = np.unique(surface[order], return_index=True)
    for index, rows in zip(present, np.split(order, starts[1:]), strict=True):
        here = points[:, rows]
        if index >= len(room.parts):
            face = int(index) - len(room.parts)
            local, inward = shell_frame(room, face, here)
            normals[:, rows], labels[rows] = inward[:, None], room.shell_ids[face]
            colors[:, rows] = albedo(room.shell[face], local)
            if 1 <= face <= 4:  # a skirting board
                colors[:, rows[here[2] < 0.12]] = np.array([[0.6], [0.55], [0.47]])
            continue
        solid = room.parts[index]
        local = solid.rotation.T @ (here - solid.position[:, None])
        normals[:, rows] = solid.rotation @ solid.shape.normals(local)
        colors[:, rows] = albedo(solid.texture, local)
        labels[rows] = solid.thing
    return normals, colors, labels


def render_view(room: Room, view: Viewpoint, samples: int = 3) -> Picture:
    """The picture of one viewpoint; pixels with contrast get samples x samples rays."""
    shape = (view.height, view.width)
    rows, columns = (g.ravel() + 0.5 for g in np.mgrid[: view.height, : view.width])
    directions = pixel_rays(view, columns, rows)
    origin = view.center[:, None]
    hits = trace(room, origin, directions)
    points = origin + hits.distance * directions
    normals, colors, labels = surfaces(room, points, hits.surface)
    sky = sky_light(room, points, normals, hits.surface)
    linear = colors * (lamp_light(room, points, normals) + sky)
    step = contrast(to_display(linear).reshape(3, *shape), labels.reshape(shape)).ravel()
    weak, strong = (step > CONTRAST) & (step <= STRONG), step > STRONG
    for busy, count in ((np.flatnonzero(weak), samples - 1), (np.flatnonzero(strong), samples)):
        if count > 1 and busy.size:
            known = Centers(
                columns[busy], rows[busy], hits.surface[busy], normals[:, busy], sky[:, busy]
            )
            linear[:, busy] = supersample(room, view, known, linear[:, busy], count)
    forward = dot(view.world_to_view[2, :3][:, None], directions)
    return Picture(
        color=to_display(linear).T.reshape(*shape, 3).astype(np.float32),
        labels=labels.reshape(shape),
        depth=(hits.distance * forward).reshape(shape).astype(np.float32),
        points=points.T.reshape(*shape, 3).astype(np.float32),
        normals=normals.T.reshape(*shape, 3).astype(np.float32),
    )


def supersample(room: Room, view: Viewpoint, known: Centers, linear: Array, samples: int) -> Array:
    """[3, n] mean linear colour of a grid of rays inside each pixel; `linear` [3, n] at centres.

    The corners of the lamp take turns among a pixel's rays, and with an odd number of samples a
    side the ray in the middle is the known one, so each corner is asked equally often. Where a ray
    meets the surface of the centre, at about its slope, the sky is the centre's.
    """
    steps = (np.arange(samples) + 0.5) / samples - 0.5
    right, down = (g.ravel() for g in np.meshgrid(steps, steps))
    asked = np.flatnonzero((right != 0) | (down != 0))
    turn = np.arange(asked.size) % LAMP_CORNERS
    origin = view.center[:, None]
    total = linear * (samples**2 - asked.size)
    for start in range(0, known.columns.size, PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        here = known.part(part, asked.size)
        columns = (known.columns[part] + right[asked, None]).ravel()
        directions = pixel_rays(view, columns, (known.rows[part] + down[asked, None]).ravel())
        hits = trace(room, origin, directions)
        points = origin + hits.distance * directions
        normals, colors, _ = surfaces(room, points, hits.surface)
        sky = here.sky
        own = (hits.surface != here.surface) | (dot(normals, here.normals) < ALIKE)
        sky[:, own] = sky_light(room, points[:, own], normals[:, own], hits.surface[own])
        lamp = lamp_light(room, points, normals, np.repeat(turn, columns.size // asked.size))
        total[:, part] += (colors * (lamp + sky)).reshape(3, asked.size, -1).sum(axis=1)
    return total / samples**2


def contrast(color: Array, labels: Array) -> Array:
    """[H, W] largest step of color [3, H, W] to the eight neighbours; inf where labels differ."""
    largest = np.zeros(labels.shape)
    high, wide = labels.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = (slice(0, high - dy), slice(max(0, -dx), wide - max(0, dx)))
        b = (slice(dy, high), slice(max(0, dx), wide - max(0, -dx)))
        step = np.abs(color[:, a[0], a[1]] - color[:, b[0], b[1]]).max(axis=0)
        step[labels[a] != labels[b]] = np.inf
        largest[a] = np.maximum(largest[a], step)
        largest[b] = np.maximum(largest[b], step)
    return largest
