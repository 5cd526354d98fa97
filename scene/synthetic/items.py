# SPDX-License-Identifier: Apache-2.0
"""Things for the table of the synthetic room: each a few shapes, base at z = 0, centred."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scene.synthetic.parts import Painter, Thing, part, rgb, turned
from scene.synthetic.shapes import Box, Ellipsoid, Frustum, Torus
from scene.synthetic.textures import Texture


def box(paint: Painter, name: str, size: float, tall: tuple[float, float]) -> Thing:
    half = (size * paint.size(0.8, 1.0), size * paint.size(0.6, 0.9), paint.size(*tall) / 2)
    shape = part(Box(half), paint.texture(paint.size(0.07, 0.12)), (0, 0, half[2]))
    return Thing(name, (shape,), float(np.hypot(half[0], half[1])), 2 * half[2])


def cube(paint: Painter, name: str, size: float) -> Thing:
    shape = part(
        Box((size / 2,) * 3), paint.texture(size * 0.8, ("checker", "dots")), (0, 0, size / 2)
    )
    return Thing(name, (shape,), 0.71 * size, size)


def ball(paint: Painter, name: str, low: float, high: float) -> Thing:
    r = paint.size(low, high)
    paintwork = paint.texture(r, ("segments", "stripes", "waves"))
    paintwork = replace(paintwork, period=1 / 4 if paintwork.kind == "segments" else r)
    tilt = turned(paint.size(-0.8, 0.8), paint.size(-0.8, 0.8))
    return Thing(name, (part(Ellipsoid((r, r, r)), paintwork, (0, 0, r), tilt),), r, 2 * r)


def egg(paint: Painter, name: str) -> Thing:
    r = (paint.size(0.1, 0.15), paint.size(0.08, 0.1), paint.size(0.06, 0.09))
    return Thing(
        name,
        (part(Ellipsoid(r), paint.texture(0.1, ("waves", "bands")), (0, 0, r[2])),),
        max(r),
        2 * r[2],
    )


def cushion(paint: Painter, name: str) -> Thing:
    r = (paint.size(0.27, 0.33), paint.size(0.22, 0.27), paint.size(0.09, 0.12))
    return Thing(
        name,
        (part(Ellipsoid(r), paint.texture(0.16, ("checker", "waves")), (0, 0, r[2])),),
        max(r),
        2 * r[2],
    )


def cylinder(paint: Painter, name: str, low: float, high: float) -> Thing:
    r, h = paint.size(low, high), paint.size(low, high) * 1.1
    return Thing(name, (part(Frustum(r, r, h), paint.texture(0.1), (0, 0, h)),), r, 2 * h)


def cone(paint: Painter, name: str) -> Thing:
    r, h = paint.size(0.11, 0.15), paint.size(0.15, 0.19)
    return Thing(
        name,
        (part(Frustum(r, 0.0, h), paint.texture(0.1, ("stripes", "waves")), (0, 0, h)),),
        r,
        2 * h,
    )


def ring(paint: Painter, name: str) -> Thing:
    """A ring that stands on its edge."""
    minor = paint.size(0.03, 0.04)
    major = paint.size(0.14, 0.19)
    shape = part(
        Torus(major, minor),
        paint.texture(1 / 8, ("segments",)),
        (0, 0, major + minor),
        turned(np.pi / 2),
    )
    return Thing(name, (shape,), major + minor, 2 * (major + minor))


def hoop(paint: Painter, name: str) -> Thing:
    """A ring that lies flat."""
    minor, major = paint.size(0.03, 0.04), paint.size(0.13, 0.18)
    shape = part(Torus(major, minor), paint.texture(1 / 6, ("segments",)), (0, 0, minor))
    return Thing(name, (shape,), major + minor, 2 * minor)


def arch(paint: Painter, name: str) -> Thing:
    minor, major = paint.size(0.04, 0.05), paint.size(0.16, 0.2)
    shape = part(
        Torus(major, minor, arch=True),
        paint.texture(0.09, ("bands", "checker")),
        (0, 0, 0),
        turned(np.pi / 2),
    )
    return Thing(name, (shape,), major + minor, major + minor)


def bottle(paint: Painter, name: str) -> Thing:
    r, h = paint.size(0.065, 0.085), paint.size(0.11, 0.14)
    glass, label = paint.plain(), paint.texture(0.09, ("checker", "waves", "stripes"))
    neck, cap = 0.38 * r, paint.plain()
    parts = (
        part(Frustum(r, r, h), label, (0, 0, h)),
        part(Frustum(r, neck, 0.04), glass, (0, 0, 2 * h + 0.04)),
        part(Frustum(neck, neck, 0.05), glass, (0, 0, 2 * h + 0.13)),
        part(Frustum(neck * 1.3, neck * 1.3, 0.02), cap, (0, 0, 2 * h + 0.19)),
    )
    return Thing(name, parts, r, 2 * h + 0.21)


def mug(paint: Painter, name: str) -> Thing:
    r, h = paint.size(0.075, 0.09), paint.size(0.085, 0.1)
    coat = paint.texture(0.08, ("stripes", "checker", "waves"))
    inside = Texture("rings", rgb("2b1a10"), rgb("3a2416"), 0.05, 0.0, 0.2)
    parts = (
        part(Frustum(r, r, h), coat, (0, 0, h)),
        part(Frustum(r * 0.86, r * 0.86, 0.001), inside, (0, 0, 2 * h + 0.001)),
        part(
            Torus(0.055, 0.014, arch=True),
            coat,
            (r - 0.004, 0, h),
            turned(0, 0, -np.pi / 2) @ turned(0, np.pi / 2, 0),
        ),
    )
    return Thing(name, parts, r + 0.07, 2 * h + 0.002)


def stick(paint: Painter, name: str) -> Thing:
    r, h = paint.size(0.016, 0.019), paint.size(0.26, 0.32)
    shape = part(
        Frustum(r, r, h), paint.texture(0.12, ("stripes",)), (0, 0, r), turned(0, np.pi / 2)
    )
    return Thing(name, (shape,), h, 2 * r)


def book(paint: Painter, name: str) -> Thing:
    half = (paint.size(0.15, 0.18), paint.size(0.11, 0.13), paint.size(0.03, 0.042))
    cover = paint.texture(0.14, ("waves", "bands"))
    return Thing(
        name,
        (part(Box(half), cover, (0, 0, half[2])),),
        float(np.hypot(half[0], half[1])),
        2 * half[2],
    )


def plate(paint: Painter, name: str) -> Thing:
    r = paint.size(0.15, 0.18)
    glaze = paint.texture(0.09, ("rings",))
    parts = (part(Frustum(0.6 * r, r, 0.012), glaze, (0, 0, 0.012)),)
    return Thing(name, parts, r, 0.024)


def vase(paint: Painter, name: str) -> Thing:
    r, coat = paint.size(0.1, 0.13), paint.texture(0.1, ("stripes", "waves"))
    parts = (
        part(Frustum(0.6 * r, r, 0.09), coat, (0, 0, 0.09)),
        part(Frustum(r, 0.45 * r, 0.07), coat, (0, 0, 0.25)),
        part(Frustum(0.45 * r, 0.7 * r, 0.035), coat, (0, 0, 0.355)),
    )
    return Thing(name, parts, r, 0.39)
