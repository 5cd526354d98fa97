# SPDX-License-Identifier: Apache-2.0
"""Solid shapes with exact ray intersections, in their own frames (centre at the origin, axis z).

Rays are (origins [3, n] or [3, 1], unit directions [3, n]) in float64, components first so that
every component is contiguous. `intersect` gives the distance to the nearest surface point in front
of the origin, inf where there is none; `normals` gives outward unit normals at surface points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scene.synthetic.roots import depressed_quartic_roots

Array = np.ndarray

# A hit nearer than this is the surface that the ray starts from (the room is 7 m wide).
NEAREST = 1e-6
# Two faces meet where their levels agree to this many metres: the cap wins over the side.
EDGE = 1e-7


class Shape(Protocol):
    """A closed solid."""

    @property
    def radius(self) -> float:
        """Radius of a sphere about the origin that holds the solid."""

    def intersect(self, origins: Array, directions: Array) -> Array:
        """[n] distance to the nearest hit in front, inf for a miss."""

    def normals(self, points: Array) -> Array:
        """[3, n] outward unit normals at surface points [3, n]."""


def nearest_positive(*distances: Array) -> Array:
    """The smallest distance above NEAREST of several candidates [n]; NaN counts as none."""
    best = np.full(np.broadcast_shapes(*(d.shape for d in distances)), np.inf)
    for distance in distances:
        best = np.where((distance > NEAREST) & (distance < best), distance, best)
    return best


def dot(a: Array, b: Array) -> Array:
    """Inner product of [3, n] with [3, n] or [3, 1], three terms in fixed order."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(vectors: Array) -> Array:
    """Vectors [3, n] scaled to length one."""
    return vectors / np.sqrt(dot(vectors, vectors))


@dataclass(frozen=True)
class Box:
    """A box with half edge lengths."""

    half: tuple[float, float, float]

    @property
    def radius(self) -> float:
        return float(np.linalg.norm(self.half))

    def intersect(self, origins: Array, directions: Array) -> Array:
        # A zero component would give 0/0 on the face's own plane; 1e-15 keeps the slab test exact.
        safe = np.where(np.abs(directions) < 1e-15, 1e-15, directions)
        half = np.array(self.half)[:, None]
        one, other = (-half - origins) / safe, (half - origins) / safe
        enter = np.minimum(one, other).max(axis=0)
        leave = np.maximum(one, other).min(axis=0)
        distance = np.where(enter > NEAREST, enter, leave)
        return np.where((enter <= leave) & (distance > NEAREST), distance, np.inf)

    def normals(self, points: Array) -> Array:
        face = np.argmax(np.abs(points) - np.array(self.half)[:, None], axis=0)
        result = np.zeros_like(points)
        columns = np.arange(points.shape[1])
        result[face, columns] = np.sign(points[face, columns])
        return result


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with three radii; a ball when they agree."""

    radii: tuple[float, float, float]

    @property
    def radius(self) -> float:
        return max(self.radii)

    def intersect(self, origins: Array, directions: Array) -> Array:
        scale = 1.0 / np.array(self.radii)[:, None]
        start, heading = origins * scale, directions * scale
        square = dot(heading, heading)
        along = -dot(start, heading) / square  # parameter of the point closest to the centre
        foot = start + along * heading
        room = (1.0 - dot(foot, foot)) / square
        reach = np.sqrt(np.maximum(room, 0.0))
        hit = nearest_positive(along - reach, along + reach)
        return np.where(room >= 0, hit, np.inf)

    def normals(self, points: Array) -> Array:
        return unit(points / np.array(self.radii)[:, None] ** 2)


@dataclass(frozen=True)
class Frustum:
    """A capped cone between two radii: cylinder if equal, pointed cone if one is zero."""

    bottom: float
    top: float
    half_height: float

    @property
    def radius(self) -> float:
        return float(np.hypot(max(self.bottom, self.top), self.half_height))

    @property
    def slope(self) -> float:
        """Growth of the radius per metre of height."""
        return (self.top - self.bottom) / (2 * self.half_height)

    def width(self, heights: Array) -> Array:
        """Radius of the side at heights [n]."""
        return 0.5 * (self.bottom + self.top) + self.slope * heights

    def intersect(self, origins: Array, directions: Array) -> Array:
        return nearest_positive(*self._side(origins, directions), *self._caps(origins, directions))

    def _side(self, origins: Array, directions: Array) -> list[Array]:
        (ox, oy, oz), (dx, dy, dz) = origins, directions
        width, growth = self.width(oz), self.slope * dz
        a = dx * dx + dy * dy - growth * growth
        b = ox * dx + oy * dy - width * growth
        c = ox * ox + oy * oy - width * width
        inside = b * b - a * c
        q = -(b + np.copysign(np.sqrt(np.maximum(inside, 0.0)), b))  # no cancellation
        with np.errstate(divide="ignore", invalid="ignore"):
            roots = [q / a, c / q]
            return [
                np.where((inside >= 0) & (np.abs(oz + t * dz) <= self.half_height), t, np.inf)
                for t in roots
            ]

    def _caps(self, origins: Array, directions: Array) -> list[Array]:
        (ox, oy, oz), (dx, dy, dz) = origins, directions
        hits = []
        for height, width in ((-self.half_height, self.bottom), (self.half_height, self.top)):
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (height - oz) / dz
                wide = (ox + t * dx) ** 2 + (oy + t * dy) ** 2
            hits.append(np.where(wide <= width * width, t, np.inf))
        return hits

    def normals(self, points: Array) -> Array:
        x, y, z = points
        across = np.hypot(x, y)
        side = (across - self.width(z)) / np.hypot(1.0, self.slope)
        tall = np.abs(z) - self.half_height
        safe = np.where(across > 0, across, 1.0)
        outward = unit(np.stack([x / safe, y / safe, np.full_like(z, -self.slope)]))
        cap = np.stack([np.zeros_like(z), np.zeros_like(z), np.sign(z)])
        return np.where(tall >= side - EDGE, cap, outward)


@dataclass(frozen=True)
class Torus:
    """A ring about z; `arch` keeps the half with y >= 0, closed by two discs."""

    major: float
    minor: float
    arch: bool = False

    @property
    def radius(self) -> float:
        return self.major + self.minor

    def intersect(self, origins: Array, directions: Array) -> Array:
        size = self.radius
        along = -dot(origins, directions)
        foot = origins + along * directions
        room = size * size - dot(foot, foot)
        distance = np.full(room.shape, np.inf)
        reach = np.sqrt(np.maximum(room, 0.0))
        near = np.flatnonzero((room > 0) & self._meets_slab(foot[2], reach * directions[2]))
        if not near.size:
            return distance
        foot, heading = foot[:, near] / size, directions[:, near]
        found = along[near] + size * self._roots(foot, heading, reach[near] / size)
        hits = [np.where(self._kept(row, origins, directions, near), row, np.inf) for row in found]
        distance[near] = nearest_positive(*hits, *self._ends(origins, directions, near))
        return distance

    def _meets_slab(self, height: Array, rise: Array) -> Array:
        """Whether the chord of heights height - rise .. height + rise comes within the tube's."""
        return np.abs(height) - np.abs(rise) <= self.minor

    def _roots(self, foot: Array, heading: Array, reach: Array) -> Array:
        """[4, n] parameters from the closest point to the centre, all in units of `radius`.

        (t^2 + g)^2 = 4 R^2 (A t^2 + 2 B t + C): the cubic term is zero from that origin.
        """
        major, minor = self.major / self.radius, self.minor / self.radius
        g = dot(foot, foot) + major**2 - minor**2
        a = heading[0] ** 2 + heading[1] ** 2
        b = foot[0] * heading[0] + foot[1] * heading[1]
        c = foot[0] ** 2 + foot[1] ** 2
        four = 4 * major**2
        return depressed_quartic_roots(2 * g - four * a, -2 * four * b, g * g - four * c, reach)

    def _kept(self, distance: Array, origins: Array, directions: Array, near: Array) -> Array:
        if not self.arch:
            return np.isfinite(distance)
        start = np.broadcast_to(origins, directions.shape)[1, near]
        with np.errstate(invalid="ignore"):
            return np.isfinite(distance) & (start + distance * directions[1, near] >= 0)

    def _ends(self, origins: Array, directions: Array, near: Array) -> list[Array]:
        if not self.arch:
            return []
        ox, oy, oz = np.broadcast_to(origins, directions.shape)[:, near]
        dx, dy, dz = directions[:, near]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -oy / dy
            off = (np.abs(ox + t * dx) - self.major) ** 2 + (oz + t * dz) ** 2
        return [np.where(off <= self.minor**2, t, np.inf)]

    def normals(self, points: Array) -> Array:
        x, y, z = points
        across = np.hypot(x, y)
        safe = np.where(across > 0, across, 1.0)
        pull = 1.0 - self.major / safe
        outward = unit(np.stack([x * pull, y * pull, z]))
        if not self.arch:
            return outward
        depth = np.hypot(across - self.major, z) - self.minor
        end = np.stack([np.zeros_like(z), np.full_like(z, -1.0), np.zeros_like(z)])
        return np.where(-y >= depth - EDGE, end, outward)
