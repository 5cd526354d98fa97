# SPDX-License-Identifier: Apache-2.0
"""Ray hits and normals of the solids against implicit functions, marching and bisection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scene.synthetic.roots import depressed_quartic_roots
from scene.synthetic.shapes import Box, Ellipsoid, Frustum, Shape, Torus

Array = np.ndarray
Field = Callable[[Array], Array]


def box_field(p: Array, half: tuple[float, float, float]) -> Array:
    return (np.abs(p) - np.array(half)[:, None]).max(axis=0)


def ball_field(p: Array, radii: tuple[float, float, float]) -> Array:
    return np.sqrt(((p / np.array(radii)[:, None]) ** 2).sum(axis=0)) - 1.0


def cone_field(p: Array, bottom: float, top: float, half: float) -> Array:
    width = bottom + (top - bottom) * (p[2] + half) / (2 * half)
    return np.maximum(np.sqrt(p[0] ** 2 + p[1] ** 2) - width, np.abs(p[2]) - half)


def ring_field(p: Array, major: float, minor: float) -> Array:
    return np.sqrt((np.sqrt(p[0] ** 2 + p[1] ** 2) - major) ** 2 + p[2] ** 2) - minor


CASES: dict[str, tuple[Shape, Field]] = {
    "box": (Box((0.3, 0.5, 0.2)), lambda p: box_field(p, (0.3, 0.5, 0.2))),
    "plate": (Box((0.6, 0.4, 0.01)), lambda p: box_field(p, (0.6, 0.4, 0.01))),
    "ball": (Ellipsoid((0.4, 0.4, 0.4)), lambda p: ball_field(p, (0.4, 0.4, 0.4))),
    "ellipsoid": (Ellipsoid((0.5, 0.2, 0.3)), lambda p: ball_field(p, (0.5, 0.2, 0.3))),
    "cylinder": (Frustum(0.3, 0.3, 0.4), lambda p: cone_field(p, 0.3, 0.3, 0.4)),
    "frustum": (Frustum(0.2, 0.4, 0.3), lambda p: cone_field(p, 0.2, 0.4, 0.3)),
    "cone": (Frustum(0.4, 0.0, 0.3), lambda p: cone_field(p, 0.4, 0.0, 0.3)),
    "stick": (Frustum(0.02, 0.02, 0.6), lambda p: cone_field(p, 0.02, 0.02, 0.6)),
    "ring": (Torus(0.4, 0.12), lambda p: ring_field(p, 0.4, 0.12)),
    "thin ring": (Torus(0.5, 0.02), lambda p: ring_field(p, 0.5, 0.02)),
    "arch": (Torus(0.4, 0.1, arch=True), lambda p: np.maximum(ring_field(p, 0.4, 0.1), -p[1])),
}
EACH = pytest.mark.parametrize(("shape", "field"), CASES.values(), ids=CASES.keys())


def random_rays(rng: np.random.Generator, count: int, reach: float) -> tuple[Array, Array]:
    """Rays from outside towards points near the solid."""
    origins = rng.standard_normal((3, count))
    origins *= 2.0 / np.linalg.norm(origins, axis=0)
    targets = rng.uniform(-reach, reach, (3, count))
    directions = targets - origins
    return origins, directions / np.linalg.norm(directions, axis=0)


def march(field: Field, origins: Array, directions: Array, steps: int = 3000) -> Array:
    """First sign change along each ray within 4 m, bisected; inf if none is seen."""
    grid = np.linspace(0.0, 4.0, steps)
    found = np.full(origins.shape[1], np.inf)
    before = field(origins)
    for low, high in zip(grid[:-1], grid[1:], strict=True):
        after = field(origins + high * directions)
        new = np.flatnonzero(((before < 0) != (after < 0)) & np.isinf(found))
        if new.size:
            left, right = np.full(new.size, low), np.full(new.size, high)
            start = before[new] < 0
            for _ in range(45):
                middle = 0.5 * (left + right)
                same = (field(origins[:, new] + middle * directions[:, new]) < 0) == start
                left, right = np.where(same, middle, left), np.where(same, right, middle)
            found[new] = left
        before = after
    return found


@EACH
def test_first_hit_is_the_first_change_of_sign(shape: Shape, field: Field) -> None:
    origins, directions = random_rays(np.random.default_rng(3), 800, shape.radius)
    expected = march(field, origins, directions)
    hit = shape.intersect(origins, directions)
    # Marching misses what is thinner than its step, and then meets something farther or nothing.
    sure = np.isfinite(expected)
    assert sure.sum() > 20
    missed = sure & (hit > expected + 1e-7)
    assert not missed.any()
    agree = np.abs(hit[sure] - expected[sure]) < 1e-7
    assert agree.mean() > 0.97
    assert np.isfinite(hit[~sure]).mean() < 0.05


@EACH
def test_hits_lie_on_the_surface(shape: Shape, field: Field) -> None:
    origins, directions = random_rays(np.random.default_rng(4), 5000, shape.radius)
    hit = shape.intersect(origins, directions)
    seen = np.isfinite(hit)
    assert seen.sum() > 100
    points = origins[:, seen] + hit[seen] * directions[:, seen]
    assert np.abs(field(points)).max() < 1e-9
    assert np.linalg.norm(points, axis=0).max() <= shape.radius + 1e-9


@EACH
def test_normals_are_the_gradient(shape: Shape, field: Field) -> None:
    origins, directions = random_rays(np.random.default_rng(5), 3000, shape.radius)
    hit = shape.intersect(origins, directions)
    seen = np.isfinite(hit)
    points = origins[:, seen] + hit[seen] * directions[:, seen]
    step = 1e-6
    slopes = np.stack(
        [
            (field(points + step * e[:, None]) - field(points - step * e[:, None])) / (2 * step)
            for e in np.eye(3)
        ]
    )
    slopes /= np.linalg.norm(slopes, axis=0)
    normals = shape.normals(points)
    assert np.allclose(np.linalg.norm(normals, axis=0), 1.0)
    cosine = (slopes * normals).sum(axis=0)
    assert (cosine > 1 - 1e-6).mean() > 0.995  # the rest is at edges
    assert ((normals * directions[:, seen]).sum(axis=0) < 1e-9).all()


@EACH
def test_from_inside_the_way_out_is_found(shape: Shape, field: Field) -> None:
    rng = np.random.default_rng(6)
    points = rng.uniform(-shape.radius, shape.radius, (3, 200_000))
    inside = points[:, field(points) < -1e-3][:, :200]
    assert inside.shape[1] >= 5
    directions = rng.standard_normal(inside.shape)
    directions /= np.linalg.norm(directions, axis=0)
    hit = shape.intersect(inside, directions)
    assert np.isfinite(hit).all()
    assert np.abs(field(inside + hit * directions)).max() < 1e-9


@EACH
def test_rays_that_look_away_miss(shape: Shape, field: Field) -> None:
    origins, directions = random_rays(np.random.default_rng(7), 300, 0.1)
    assert np.isinf(shape.intersect(origins, -directions)).all()
    one = origins[:, :1]
    assert np.isinf(shape.intersect(one, -directions[:, :1])).all()


@pytest.mark.parametrize("axis", range(3))
def test_rays_along_an_axis(axis: int) -> None:
    """Zero components of the direction divide by nothing."""
    direction = np.eye(3)[:, axis : axis + 1]
    for name, (shape, field) in CASES.items():
        sideways = np.full((3, 1), 0.005)
        sideways[(axis + 1) % 3] = 0.4 if "ring" in name or name == "arch" else 0.005
        origin = sideways - 2.0 * direction
        hit = shape.intersect(origin, direction)
        expected = march(field, origin, direction, 4000)
        assert np.isfinite(expected).all() == np.isfinite(hit).all(), name
        assert np.isinf(expected).all() or np.allclose(hit, expected, atol=1e-7), name


def test_quartic_roots_known_in_advance() -> None:
    rng = np.random.default_rng(8)
    roots = rng.uniform(-1, 1, (4, 2000))
    roots -= roots.mean(axis=0)  # no cubic term
    p, q, r = (np.empty(2000) for _ in range(3))
    for k in range(2000):
        _, _, p[k], q[k], r[k] = np.poly(roots[:, k])
    found = depressed_quartic_roots(p, q, r, np.full(2000, 3.0))
    expected = np.sort(roots, axis=0)
    apart = np.diff(expected, axis=0).min(axis=0) > 1e-3
    assert apart.sum() > 1500
    assert np.abs(found - expected)[:, apart].max() < 1e-8


def test_quartic_without_roots_and_with_roots_out_of_reach() -> None:
    one = np.ones(1)
    assert np.isinf(depressed_quartic_roots(one, 0 * one, one, 2 * one)).all()
    found = depressed_quartic_roots(-5 * one, 0 * one, 4 * one, 1.5 * one)  # +-1 and +-2
    assert np.allclose(found[:2, 0], [-1, 1])
    assert np.isinf(found[2:]).all()
