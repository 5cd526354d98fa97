# SPDX-License-Identifier: Apache-2.0
"""What the synthetic room is made of: parts, things, and the painter that draws their looks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from scene.synthetic.shapes import Shape
from scene.synthetic.textures import Texture

Array = np.ndarray
Colour = tuple[float, float, float]

PALETTE = (
    "c0392b",
    "d35400",
    "e0a526",
    "7d9b3a",
    "2e7d5b",
    "2a8c8c",
    "3b6ea5",
    "2c3e66",
    "6b4c9a",
    "a64d79",
    "e8dcc4",
    "f4efe6",
    "8c6239",
    "5b4636",
    "c97b63",
    "b8c4a8",
    "94b4c9",
    "4a4a4f",
)
# Metres: a hundred times the rounding of single precision over the room.
CULL_MARGIN = 1e-3
RAYS_AT_ONCE = 1024  # 100 parts times these in single precision: half a megabyte
PATTERNED = ("checker", "stripes", "bands", "waves", "dots")


@dataclass(frozen=True)
class Part:
    """A shape in the world: rotation [3, 3] turns local axes to world axes."""

    shape: Shape
    texture: Texture
    rotation: Array
    position: Array
    thing: int = -1


@dataclass(frozen=True)
class Thing:
    """One instance: its parts, the radius of its footprint and the height of its flat top."""

    name: str
    parts: tuple[Part, ...]
    footprint: float
    height: float


def rgb(code: str) -> Colour:
    """Linear RGB of an sRGB hex code."""
    values = [int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return (linear[0], linear[1], linear[2])


def turned(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Array:
    """Rotation by Euler angles in radians, x first."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def part(
    shape: Shape, texture: Texture, at: tuple[float, float, float], rotation: Array | None = None
) -> Part:
    """A part in its thing's frame."""
    return Part(shape, texture, np.eye(3) if rotation is None else rotation, np.array(at, float))


def placed(thing: Thing, at: Array, rotation: Array) -> Thing:
    """The thing moved: its base origin goes to `at` [3]."""
    moved = [
        replace(p, rotation=rotation @ p.rotation, position=rotation @ p.position + at)
        for p in thing.parts
    ]
    return replace(thing, parts=tuple(moved))


def enlarged(thing: Thing, factor: float) -> Thing:
    """The thing with all its lengths multiplied."""
    parts = []
    for p in thing.parts:
        sizes = {f.name: getattr(p.shape, f.name) for f in fields(p.shape)}  # type: ignore[arg-type]
        sizes = {k: v if isinstance(v, bool) else scaled(v, factor) for k, v in sizes.items()}
        shape = replace(p.shape, **sizes)  # type: ignore[type-var]
        texture = p.texture
        if texture.kind != "segments":  # whose period is in turns
            texture = replace(texture, period=texture.period * factor)
        parts.append(replace(p, shape=shape, texture=texture, position=p.position * factor))
    return Thing(thing.name, tuple(parts), thing.footprint * factor, thing.height * factor)


def scaled(size: float | tuple[float, ...], factor: float) -> float | tuple[float, ...]:
    """A length, or a tuple of lengths, multiplied."""
    return tuple(s * factor for s in size) if isinstance(size, tuple) else size * factor


def may_meet(
    parts: tuple[Part, ...], origins: Array, directions: Array, widening: Array | None = None
) -> Array:
    """[M, n] bool: rays that come near each part's bounding ball.

    `widening` [n] makes the rays cones: their radius per metre of length. One matrix product for
    all parts; single precision with a margin, so no hit is lost. A few rays at a time: what a
    block needs then stays in the cache.
    """
    met = np.empty((len(parts), directions.shape[1]), bool)
    centers = np.stack([p.position for p in parts]).astype(np.float32)
    sizes = np.array([[p.shape.radius + CULL_MARGIN] for p in parts], np.float32)
    for first in range(0, met.shape[1], RAYS_AT_ONCE):
        block = slice(first, first + RAYS_AT_ONCE)
        start = origins if origins.shape[1] == 1 else origins[:, block]
        wide = None if widening is None else widening[block]
        met[:, block] = _near_balls((centers, sizes), start, directions[:, block], wide)
    return met


def _near_balls(
    balls: tuple[Array, Array], origins: Array, directions: Array, widening: Array | None
) -> Array:
    """One block of `may_meet`: balls of centres [M, 3] and radii [M, 1]."""
    centers, sizes = balls
    start, heading = origins.astype(np.float32), directions.astype(np.float32)
    along = centers @ heading
    along -= (start * heading).sum(axis=0)
    gap = -2 * centers @ start  # becomes the squared distance of the ray from the centre
    gap += (centers**2).sum(axis=1, keepdims=True)
    gap += (start**2).sum(axis=0)
    gap = gap - along * along  # one origin, or one for each ray
    along += sizes  # the far end of the ball
    reach = sizes if widening is None else sizes + widening.astype(np.float32) * along
    return (gap <= reach * reach) & (along > 0)


class Painter:
    """Draws sizes and textures from one generator; neighbouring things get different colours."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.order = rng.permutation(len(PALETTE))
        self.used = 0

    def size(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def colour(self) -> Colour:
        self.used += 1
        return rgb(PALETTE[self.order[self.used % len(PALETTE)]])

    def texture(self, period: float = 0.1, kinds: tuple[str, ...] = PATTERNED) -> Texture:
        kind = str(self.rng.choice(list(kinds)))
        first = np.array(self.colour())
        second = np.array(self.colour())
        if np.abs(first - second).max() < 0.15:  # a pattern must be seen
            second = np.clip(1.0 - 1.2 * first, 0.05, 0.9)
        phase = float(self.rng.uniform(0, 6.28))
        pair = (tuple(map(float, first)), tuple(map(float, second)))
        return Texture(kind, pair[0], pair[1], period, phase)  # type: ignore[arg-type]

    def wood(self, dark: bool = False) -> Texture:
        first, second = ("6b4426", "8a5a33") if dark else ("b98a57", "9a6b3c")
        phase = float(self.rng.uniform(0, 6.28))
        return Texture("wood", rgb(first), rgb(second), self.size(0.07, 0.1), phase, 0.12)

    def plain(self, cloud: float = 0.12) -> Texture:
        return Texture("plain", self.colour(), (0, 0, 0), 0.1, self.size(0, 6.28), cloud)
