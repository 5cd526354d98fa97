# SPDX-License-Identifier: Apache-2.0
"""Solid procedural textures: linear albedo as a smooth-enough function of the local point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Directions of the sinusoids that stand for cloudy noise: irrational to each other, fixed for all
# scenes, so that a texture is determined by its own numbers alone.
GOLDEN = 2.399963229728653
OCTAVES = 5


@dataclass(frozen=True)
class Texture:
    """A pattern between two colours.

    Attributes:
        kind: one of PATTERNS.
        first, second: linear RGB in 0..1.
        period: metres of one repetition.
        phase: shifts the cloudy part, so equal kinds differ.
        cloud: strength of the cloudy variation of brightness.
    """

    kind: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    period: float = 0.1
    phase: float = 0.0
    cloud: float = 0.15


def clouds(points: Array, period: float, phase: float) -> Array:
    """Smooth variation in about -1..1 at points [3, n]: a sum of turned sinusoids."""
    total = np.zeros(points.shape[1], points.dtype)
    x, y, z = points
    for octave in range(OCTAVES):
        turn = GOLDEN * octave + phase
        tilt = np.sin(1.7 * octave + 0.9 * phase)
        rate = 2 * np.pi * 1.45**octave / (2.5 * period)
        a, b = np.cos(turn) * rate, np.sin(turn) * rate
        wave = np.sin(a * x + b * y + tilt * rate * z + 5.1 * octave + phase + total)
        total = total + wave / 1.5**octave
    return total / 2.2


def checker(points: Array, period: float) -> Array:
    cells = np.floor(points / period + 1e-4).sum(axis=0)
    return np.mod(cells, 2.0)


def stripes(points: Array, period: float) -> Array:
    return (np.mod(points[2] / period, 1.0) < 0.5).astype(points.dtype)


def bands(points: Array, period: float) -> Array:
    return (np.mod(points[0] / period + 0.25, 1.0) < 0.5).astype(points.dtype)


def waves(points: Array, period: float) -> Array:
    rate = 2 * np.pi / period
    x, y, z = points * rate
    return 0.5 + 0.5 * np.sin(x + 0.7 * np.sin(y)) * np.sin(y + z + 0.5 * np.sin(x))


def rings(points: Array, period: float) -> Array:
    return (np.mod(np.hypot(points[0], points[1]) / period, 1.0) < 0.5).astype(points.dtype)


def segments(points: Array, period: float) -> Array:
    """Sectors round the axis, as on a beach ball; `period` is in turns."""
    turn = np.arctan2(points[1], points[0]) / (2 * np.pi)
    return (np.mod(turn / period, 1.0) < 0.5).astype(points.dtype)


def dots(points: Array, period: float) -> Array:
    cell = np.mod(points / period, 1.0) - 0.5
    return ((cell**2).sum(axis=0) < 0.16).astype(points.dtype)


def wood(points: Array, period: float) -> Array:
    """Grain along x: bent year rings."""
    x, y, z = points
    bend = 0.35 * np.sin(2.3 * x + 1.3 * y) + 0.15 * np.sin(7.1 * x + 3.0 * y)
    return 0.5 + 0.5 * np.sin(2 * np.pi * ((y + 0.6 * z) / period + bend))


def planks(points: Array, period: float) -> Array:
    """Floor boards along x: one tone a board, dark joints."""
    x, y, _ = points
    row = np.floor(y / period)
    shifted = x / (9.0 * period) + 0.37 * row
    board = np.floor(shifted)
    tone = 0.55 * np.mod(np.sin(row * 12.9898 + board * 78.233) * 43758.5453, 1.0)
    grain = 0.2 * np.sin(2 * np.pi * (6.0 * y / period + 0.6 * np.sin(4.0 * x + row)))
    across, ends = np.mod(y / period, 1.0), np.mod(shifted, 1.0)
    joint = (across < 0.06) | (ends < 0.008)
    return np.where(joint, 1.35, tone + 0.15 + grain)


def landscape(points: Array, period: float) -> Array:
    """Hills before a sky with a sun, in the plane x = const; for pictures on walls."""
    _, y, z = points / period
    hills = 0.5 * np.sin(2.1 * y + 0.6) + 0.25 * np.sin(5.3 * y) - 0.35
    ridge = 0.4 * np.sin(1.3 * y + 2.0) + 0.1
    sun = (y - 0.5) ** 2 + (z - 0.75) ** 2 < 0.06
    sky = np.clip(0.35 - 0.25 * z, 0.0, 0.5)
    return np.where(z < hills, 1.0, np.where(z < ridge, 0.72, np.where(sun, -0.6, sky)))


def plain(points: Array, period: float) -> Array:
    return np.zeros(points.shape[1], points.dtype)


def tiles(points: Array, period: float) -> Array:
    """Squares with thin joints of the second colour."""
    cell = np.mod(points / period + 0.5, 1.0)
    return (np.minimum(cell, 1.0 - cell).min(axis=0) < 0.05).astype(points.dtype)


PATTERNS = {
    "checker": checker,
    "stripes": stripes,
    "bands": bands,
    "waves": waves,
    "rings": rings,
    "segments": segments,
    "dots": dots,
    "wood": wood,
    "planks": planks,
    "plain": plain,
    "tiles": tiles,
    "landscape": landscape,
}


def albedo(texture: Texture, points: Array) -> Array:
    """Linear albedo [3, n] at local points [3, n]."""
    blend = PATTERNS[texture.kind](points, texture.period)
    first, second = np.array(texture.first)[:, None], np.array(texture.second)[:, None]
    colour = first + blend * (second - first)
    period = texture.period if texture.kind != "segments" else 0.15
    shade = 1.0 + texture.cloud * clouds(points, max(period, 0.08), texture.phase)
    return np.clip(colour * shade, 0.01, 0.95)
