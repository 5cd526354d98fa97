# SPDX-License-Identifier: Apache-2.0
"""Furniture of the synthetic room: each a few shapes, base at z = 0, centred."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scene.synthetic.parts import Painter, Thing, part, rgb, turned
from scene.synthetic.shapes import Box, Ellipsoid, Frustum
from scene.synthetic.textures import Texture


def table(paint: Painter, half: tuple[float, float], height: float) -> Thing:
    top, legs = paint.wood(), paint.wood(dark=True)
    board = 0.025
    parts = [part(Box((half[0], half[1], board)), top, (0, 0, height - board))]
    leg = height / 2 - board
    for sx in (-1, 1):
        parts += [
            part(Box((0.035, 0.035, leg)), legs, (sx * (half[0] - 0.1), sy * (half[1] - 0.1), leg))
            for sy in (-1, 1)
        ]
    return Thing("table", tuple(parts), float(np.hypot(*half)), height)


def chair(paint: Painter, name: str) -> Thing:
    frame, seat = paint.wood(dark=True), paint.texture(0.1, ("checker", "waves", "stripes"))
    parts = [part(Box((0.21, 0.21, 0.03)), seat, (0, 0, 0.45))]
    parts += [
        part(Box((0.025, 0.025, 0.21)), frame, (x, y, 0.21))
        for x in (-0.18, 0.18)
        for y in (-0.18, 0.18)
    ]
    parts += [part(Box((0.025, 0.025, 0.22)), frame, (-0.185, y, 0.7)) for y in (-0.18, 0.18)]
    parts += [part(Box((0.015, 0.16, 0.06)), frame, (-0.185, 0, z)) for z in (0.66, 0.85)]
    return Thing(name, tuple(parts), 0.3, 0.48)


def stool(paint: Painter, name: str) -> Thing:
    r, seat, legs = paint.size(0.17, 0.2), paint.texture(0.1, ("rings", "checker")), paint.wood()
    parts = [part(Frustum(r, r, 0.03), seat, (0, 0, 0.43))]
    for k in range(3):
        turn = 2 * np.pi * k / 3
        spot = (0.6 * r * np.cos(turn), 0.6 * r * np.sin(turn), 0.2)
        parts.append(part(Frustum(0.024, 0.024, 0.2), legs, spot))
    return Thing(name, tuple(parts), r, 0.46)


def crate(paint: Painter, name: str) -> Thing:
    s = paint.size(0.2, 0.24)
    return Thing(
        name,
        (
            part(
                Box((s, s * 0.85, s * 0.8)),
                paint.texture(0.14, ("bands", "checker", "wood")),
                (0, 0, s * 0.8),
            ),
        ),
        float(np.hypot(s, s * 0.85)),
        1.6 * s,
    )


def lamp(paint: Painter, name: str) -> Thing:
    metal, shade = (
        Texture("plain", rgb("4a4a4f"), (0, 0, 0)),
        paint.texture(0.12, ("stripes", "waves")),
    )
    parts = (
        part(Frustum(0.16, 0.13, 0.02), metal, (0, 0, 0.02)),
        part(Frustum(0.028, 0.028, 0.7), metal, (0, 0, 0.74)),
        part(Frustum(0.26, 0.16, 0.17), shade, (0, 0, 1.55)),
    )
    return Thing(name, parts, 0.25, 1.7)


def plant(paint: Painter, name: str) -> Thing:
    leaf = Texture("waves", rgb("2f6b2f"), rgb("7fae4a"), 0.14, paint.size(0, 6), 0.3)
    pot = paint.texture(0.12, ("stripes", "bands"))
    parts = [part(Frustum(0.14, 0.2, 0.16), pot, (0, 0, 0.16))]
    for k in range(6):
        turn, up = 2 * np.pi * k / 6 + paint.size(-0.3, 0.3), paint.size(0.55, 0.95)
        out = 0.17 if k % 2 else 0.1
        tilt = turned(0, paint.size(0.3, 0.7), turn)
        parts.append(
            part(
                Ellipsoid((0.1, 0.14, 0.26)),
                leaf,
                (out * np.cos(turn), out * np.sin(turn), up),
                tilt,
            )
        )
    parts.append(part(Frustum(0.03, 0.02, 0.25), paint.wood(dark=True), (0, 0, 0.5)))
    return Thing(name, tuple(parts), 0.35, 1.1)


def cabinet(paint: Painter, name: str) -> Thing:
    half, wood = (0.24, paint.size(0.5, 0.6), paint.size(0.36, 0.44)), paint.wood()
    door, knob = paint.texture(0.2, ("tiles", "bands", "wood")), paint.plain()
    parts = [part(Box(half), wood, (0, 0, half[2]))]
    for side in (-1, 1):
        parts.append(
            part(
                Box((0.012, half[1] * 0.44, half[2] * 0.85)),
                door,
                (half[0] + 0.012, side * half[1] * 0.48, half[2]),
            )
        )
        parts.append(
            part(Ellipsoid((0.025,) * 3), knob, (half[0] + 0.04, side * 0.07, half[2] * 1.2))
        )
    return Thing(name, tuple(parts), float(np.hypot(half[0], half[1])), 2 * half[2])


def picture(paint: Painter, name: str) -> Thing:
    """A framed picture; its back is the plane x = 0 and it faces +x."""
    half = (paint.size(0.45, 0.6), paint.size(0.32, 0.42))
    frame, canvas = (
        paint.wood(dark=True),
        Texture("landscape", rgb("e9d3b0"), rgb("2c5a4b"), 0.33, paint.size(0, 6.28), 0.08),
    )
    parts = (
        part(Box((0.02, half[0], half[1])), frame, (0.02, 0, 0)),
        part(Box((0.004, half[0] - 0.05, half[1] - 0.05)), canvas, (0.044, 0, 0)),
    )
    return Thing(name, parts, half[0], 2 * half[1])


def rug(paint: Painter, radius: float) -> Thing:
    weave = paint.texture(0.3, ("rings",))
    first, second = np.array(weave.first), np.array(weave.second)  # quieter than the things on it
    soft = second + 0.45 * (first - second)
    weave = replace(weave, first=(float(soft[0]), float(soft[1]), float(soft[2])), cloud=0.3)
    return Thing(
        "rug", (part(Frustum(radius, radius, 0.006), weave, (0, 0, 0.006)),), radius, 0.012
    )


def broom(paint: Painter, name: str) -> Thing:
    """A pole that leans: its foot at the origin, its head towards -x."""
    tilt = turned(0, -0.2)
    parts = (
        part(
            Frustum(0.02, 0.02, 0.78),
            paint.texture(0.2, ("stripes",)),
            tuple(tilt @ np.array([0, 0, 0.79])),
            tilt,
        ),
    )
    return Thing(name, parts, 0.05, 1.55)
