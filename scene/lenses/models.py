# SPDX-License-Identifier: Apache-2.0
"""COLMAP's camera models as formulas: where a lens puts the ray through (x, y, 1).

A formula takes normalised pinhole coordinates x, y (any shape, float64) and the model's
coefficients in COLMAP's order, without focal lengths and principal point, and returns distorted
coordinates; the pixel is (fx u + cx, fy v + cy).

Sources: OpenCV's documentation of `calib3d` (polynomial and rational) and of its fisheye model
(Kannala and Brandt 2006); Devernay and Faugeras 2001 (FOV); Fitzgibbon 2001 (division); Weng et al.
1992 (thin prism); Khomutenko et al. 2016 (EUCM); Project Aria's documentation
(radial-tangential-thin-prism fisheye).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = tuple[Array, Array]
Formula = Callable[[Array, Array, tuple[float, ...]], Point]


@dataclass(frozen=True)
class LensModel:
    """A camera model of COLMAP."""

    number: int  # in its binary files
    parameters: tuple[str, ...]  # in its files' order; f stands for fx and fy
    formula: Formula | None  # None: a pinhole

    @property
    def intrinsics(self) -> int:
        """How many of the parameters are focal lengths and principal point."""
        return 3 if self.parameters[0] == "f" else 4


def perspective(x: Array, y: Array, radial: Array, p1: float, p2: float) -> Point:
    """OpenCV's model: (x, y) times `radial`, plus the tangential terms."""
    xy, r2 = x * y, x * x + y * y
    return (
        x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * xy,
    )


def equidistant(x: Array, y: Array) -> Point:
    """(x, y) at the distance of its angle to the axis: the ideal fisheye."""
    radius = np.hypot(x, y)
    scale = np.divide(np.arctan(radius), radius, out=np.ones_like(radius), where=radius > 1e-12)
    return x * scale, y * scale


def polynomial(r2: Array, coefficients: tuple[float, ...]) -> Array:
    """1 + k1 r^2 + k2 r^4 + ..., by Horner's rule."""
    value = np.zeros_like(r2)
    for coefficient in reversed(coefficients):
        value = r2 * (value + coefficient)
    return 1.0 + value


def _radial(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    factor = polynomial(x * x + y * y, k)
    return x * factor, y * factor


def _opencv(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    return perspective(x, y, polynomial(x * x + y * y, k[:2]), k[2], k[3])


def _full_opencv(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    k1, k2, p1, p2, k3, k4, k5, k6 = k
    r2 = x * x + y * y
    return perspective(x, y, polynomial(r2, (k1, k2, k3)) / polynomial(r2, (k4, k5, k6)), p1, p2)


def _fisheye(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    return _radial(*equidistant(x, y), k)


def _fov(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    omega, radius = k[0], np.hypot(x, y)
    if abs(omega) < 1e-9:
        return x, y
    reach = 2.0 * np.tan(omega / 2.0)
    bent = np.arctan(radius * reach) / omega
    scale = np.divide(bent, radius, out=np.full_like(radius, reach / omega), where=radius > 1e-12)
    return x * scale, y * scale


def _thin_prism_fisheye(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    k1, k2, p1, p2, k3, k4, sx, sy = k
    a, b = equidistant(x, y)
    r2 = a * a + b * b
    u, v = perspective(a, b, polynomial(r2, (k1, k2, k3, k4)), p1, p2)
    return u + sx * r2, v + sy * r2


def _rad_tan_thin_prism_fisheye(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    # Here tangential and prism terms act on the coordinates that the radial term has moved already.
    a, b = _radial(*equidistant(x, y), k[:6])
    r2 = a * a + b * b
    u, v = perspective(a, b, np.ones_like(r2), k[7], k[6])
    s0, s1, s2, s3 = k[8:]
    return u + s0 * r2 + s1 * r2 * r2, v + s2 * r2 + s3 * r2 * r2


def _division(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    # The smaller root of k r_u r_d^2 - r_d + r_u = 0; no lens puts a ray where there is none.
    root = 1.0 - 4.0 * k[0] * (x * x + y * y)
    scale = 2.0 / (1.0 + np.sqrt(np.where(root < 0, np.nan, root)))
    return x * scale, y * scale


def _eucm(x: Array, y: Array, k: tuple[float, ...]) -> Point:
    alpha, beta = k
    scale = 1.0 / (alpha * np.sqrt(beta * (x * x + y * y) + 1.0) + (1.0 - alpha))
    return x * scale, y * scale


_F, _FXY = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
_RATIONAL = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_ARIA = ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3")
LENS_MODELS = {
    "SIMPLE_PINHOLE": LensModel(0, _F, None),
    "PINHOLE": LensModel(1, _FXY, None),
    "SIMPLE_RADIAL": LensModel(2, (*_F, "k"), _radial),
    "RADIAL": LensModel(3, (*_F, "k1", "k2"), _radial),
    "OPENCV": LensModel(4, (*_FXY, "k1", "k2", "p1", "p2"), _opencv),
    "OPENCV_FISHEYE": LensModel(5, (*_FXY, "k1", "k2", "k3", "k4"), _fisheye),
    "FULL_OPENCV": LensModel(6, (*_FXY, *_RATIONAL), _full_opencv),
    "FOV": LensModel(7, (*_FXY, "omega"), _fov),
    "SIMPLE_RADIAL_FISHEYE": LensModel(8, (*_F, "k"), _fisheye),
    "RADIAL_FISHEYE": LensModel(9, (*_F, "k1", "k2"), _fisheye),
    "THIN_PRISM_FISHEYE": LensModel(
        10, (*_FXY, "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"), _thin_prism_fisheye
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": LensModel(11, (*_FXY, *_ARIA), _rad_tan_thin_prism_fisheye),
    "SIMPLE_DIVISION": LensModel(12, (*_F, "k"), _division),
    "DIVISION": LensModel(13, (*_FXY, "k"), _division),
    "SIMPLE_FISHEYE": LensModel(14, _F, _fisheye),
    "FISHEYE": LensModel(15, _FXY, _fisheye),
    "EUCM": LensModel(16, (*_FXY, "alpha", "beta"), _eucm),
}
# Models that no pinhole can show: named in the refusal.
PANORAMAS = {"EQUIRECTANGULAR": 17}
