# SPDX-License-Identifier: Apache-2.0
"""Lenses, and the pinholes that show the same photographs.

The pinhole keeps the lens's focal length, so the middle of the picture keeps its size, and its
frame is the largest one, cut along the lens's own edges, that holds no empty pixel: what COLMAP's
undistorter leaves with `blank_pixels 0`. Wide fisheyes end at 60 degrees from the axis on each
side, beyond which a pinhole only stretches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scene.lenses.models import LENS_MODELS, Array
from utils.errors import DataError

WIDEST_ANGLE = math.radians(60)  # between the axis and a side of the pinhole's picture
LARGEST_EMPTY_SHARE = 0.01  # of the pinhole's pixels, where lens and frame do not fit exactly
SMALLEST_SHARE = 0.05  # of the photograph's area: less is a damaged camera
STRAIGHT = 0.01  # pixels: a lens that moves none by more is a pinhole
_SHRINK = 0.97  # of the frame, until few enough of its pixels are empty
_FARTHEST = math.radians(88)  # no model is asked about rays beyond
_STEP = math.radians(0.1)
_AZIMUTHS = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_BORDER_POINTS = 65  # on each side of a photograph
_NEWTON_STEPS = 20

Intrinsics = TypeVar("Intrinsics", "Pinhole", "Lens")


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics of a picture without distortion, in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def resized(self, width: int, height: int) -> Pinhole:
        """The same pinhole for pictures resampled to width x height."""
        return _resized(self, width, height)


@dataclass(frozen=True)
class Lens:
    """Intrinsics of a photograph as it was taken, for pictures of width x height pixels."""

    model: str  # of LENS_MODELS
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    coefficients: tuple[float, ...]  # in COLMAP's order

    def resized(self, width: int, height: int) -> Lens:
        """The same lens for pictures resampled to width x height."""
        return _resized(self, width, height)

    def project(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Pixels (u, v) of the rays through (x, y, 1); NaN for rays that the lens cannot see.

        A polynomial turns back at some angle, and would show far rays inside the picture.
        """
        formula = LENS_MODELS[self.model].formula
        if formula is None:
            return self.fx * x + self.cx, self.fy * y + self.cy
        with np.errstate(all="ignore"):  # numbers of damaged cameras overflow; that is told later
            inside = np.hypot(x, y) <= math.tan(largest_angle(self.model, self.coefficients))
            x, y = np.where(inside, x, np.nan), np.where(inside, y, np.nan)
            u, v = formula(x, y, self.coefficients)
        return self.fx * u + self.cx, self.fy * v + self.cy

    def unproject(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Rays (x, y, 1) [N] of pixels [N]: the inverse of `project`; NaN where there is none.

        Newton's method on the angle from the axis, in which every lens is nearly straight.
        """
        formula = LENS_MODELS[self.model].formula
        with np.errstate(all="ignore"):
            target = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy])
        if formula is None:
            return target[0], target[1]
        most = largest_angle(self.model, self.coefficients)

        def bent(angles: Array) -> Array:
            angle = np.hypot(angles[0], angles[1])
            scale = np.tan(np.minimum(angle, most)) / np.maximum(angle, 1e-12)
            x, y = angles * np.maximum(scale, 1.0)
            return np.stack(formula(x, y, self.coefficients))

        with np.errstate(all="ignore"):  # numbers of damaged cameras overflow; they are told later
            return _solved(target, bent, most)

    def bends(self) -> bool:
        """Whether the lens moves any pixel by more than 0.01 from where a pinhole has it."""
        u, v = np.meshgrid(np.linspace(0, self.width, 33), np.linspace(0, self.height, 33))
        with np.errstate(all="ignore"):
            seen_u, seen_v = self.project((u - self.cx) / self.fx, (v - self.cy) / self.fy)
            moved = np.hypot(seen_u - u, seen_v - v)
        return not bool((moved <= STRAIGHT).all())

    @lru_cache(maxsize=256)  # noqa: B019 (frozen records, and few of them)
    def pinhole(self) -> Pinhole:
        """The pinhole that shows the same photograph; see the module. DataError if none can."""
        left, top, right, bottom = self._inner_frame()
        for _ in range(100):
            grid = np.meshgrid(np.linspace(left, right, 33), np.linspace(top, bottom, 33))
            seen = inside_picture(*self.project(*grid), self.width, self.height)
            if left < right and top < bottom and (~seen).mean() <= LARGEST_EMPTY_SHARE:
                break
            left, top, right, bottom = (side * _SHRINK for side in (left, top, right, bottom))
        width, height = int((right - left) * self.fx), int((bottom - top) * self.fy)
        if min(width, height) < 1 or width * height < SMALLEST_SHARE * self.width * self.height:
            raise DataError(
                f"a {self.model} camera of {self.width}x{self.height} pixels with the numbers "
                f"{', '.join(f'{value:g}' for value in self.coefficients)} leaves nothing of its "
                "picture when it is straightened; its calibration must be damaged"
            )
        return Pinhole(self.fx, self.fy, -left * self.fx, -top * self.fy, width, height)

    def _inner_frame(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the frame inside the four bent sides, at distance 1."""
        across = np.linspace(0, self.width, _BORDER_POINTS)
        down = np.linspace(0, self.height, _BORDER_POINTS)
        most = math.tan(min(WIDEST_ANGLE, largest_angle(self.model, self.coefficients)))

        def side(u: Array, v: Array, axis: int, sign: float) -> float:
            place = self.unproject(u, v)[axis] * sign
            return sign * float(np.fmin(most, np.nan_to_num(place, nan=most)).min())

        zero = np.zeros(_BORDER_POINTS)
        return (
            side(zero, down, 0, -1.0),
            side(across, zero, 1, -1.0),
            side(zero + self.width, down, 0, 1.0),
            side(across, zero + self.height, 1, 1.0),
        )


def _resized(camera: Intrinsics, width: int, height: int) -> Intrinsics:
    scale_x, scale_y = width / camera.width, height / camera.height
    return replace(
        camera,
        fx=camera.fx * scale_x,
        cx=camera.cx * scale_x,
        fy=camera.fy * scale_y,
        cy=camera.cy * scale_y,
        width=width,
        height=height,
    )


def _solved(target: Array, bent: Callable[[Array], Array], most: float) -> tuple[Array, Array]:
    """Rays (x, y, 1) whose angles [2, N] `bent` takes to the target [2, N]; NaN for none."""
    angles = _first_guess(target, bent, most)
    for _ in range(_NEWTON_STEPS):
        error = bent(angles) - target
        by_a = (bent(angles + [[1e-7], [0]]) - bent(angles - [[1e-7], [0]])) / 2e-7
        by_b = (bent(angles + [[0], [1e-7]]) - bent(angles - [[0], [1e-7]])) / 2e-7
        det = by_a[0] * by_b[1] - by_b[0] * by_a[1]
        det = np.where(np.abs(det) < 1e-12, np.nan, det)
        step_a = (error[0] * by_b[1] - by_b[0] * error[1]) / det
        step_b = (by_a[0] * error[1] - error[0] * by_a[1]) / det
        step = np.nan_to_num(np.stack([step_a, step_b]))
        angles = angles - step
        if np.abs(step).max() < 1e-13:
            break
        length = np.hypot(angles[0], angles[1])
        angles = angles * np.minimum(1.0, most / np.maximum(length, 1e-12))
    rest = bent(angles) - target
    found = np.hypot(rest[0], rest[1]) < 1e-9
    angle = np.hypot(angles[0], angles[1])
    scale = np.where(found, np.tan(angle) / np.maximum(angle, 1e-12), np.nan)
    x, y = angles * np.maximum(scale, 1.0)
    return x, y


def _first_guess(target: Array, bent: Callable[[Array], Array], most: float) -> Array:
    """Angles [2, N] whose directions and radii nearly fit the distorted points."""
    steps = np.linspace(0, most, 200)
    u, v = bent(np.stack([steps, np.zeros_like(steps)]))
    reached, radius = np.hypot(u, v), np.hypot(target[0], target[1])
    angle = np.interp(radius, np.maximum.accumulate(np.nan_to_num(reached)), steps)
    guess: Array = target * (angle / np.maximum(radius, 1e-12))
    return guess


@lru_cache(maxsize=64)
def largest_angle(model: str, coefficients: tuple[float, ...]) -> float:
    """Radians from the axis up to which larger angles lie farther out, in all directions."""
    formula = LENS_MODELS[model].formula
    if formula is None:
        return _FARTHEST
    angles = np.arange(0.0, _FARTHEST, _STEP)
    reach = np.tan(angles)[None]
    with np.errstate(all="ignore"):
        u, v = formula(
            reach * np.cos(_AZIMUTHS)[:, None], reach * np.sin(_AZIMUTHS)[:, None], coefficients
        )
        grows = (np.diff(np.hypot(u, v), axis=1) > 0).all(axis=0)
    return float(angles[-1] if grows.all() else angles[max(int(np.argmin(grows)), 1)])


def inside_picture(u: Array, v: Array, width: int, height: int) -> NDArray[np.bool_]:
    """Whether pixels lie in a picture, within rounding; NaN does not."""
    slack = 1e-6 * max(width, height)
    inside: NDArray[np.bool_] = (
        (u >= -slack) & (u <= width + slack) & (v >= -slack) & (v <= height + slack)
    )
    return inside
