# SPDX-License-Identifier: Apache-2.0
"""3D Gaussians for the tests: covariances in space, loops over pixels and splats, numpy, float64.

It shares no formula with the package: the perspective is differentiated by complex steps, the
covariance is carried through as a matrix and inverted by numpy, rotations come from scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from diff_surfel_rasterization import Ellipsoids, RasterSettings
from tests.rasterizer.oracle import Contribution, compose, let_through, to_array, to_pixels

STEP = 1e-30  # complex steps have no difference to cancel


@dataclass(frozen=True)
class ScreenSplats:
    """Ellipsoids on screen, front to back."""

    order: np.ndarray  # [n]
    center: np.ndarray  # [n, 2] pixels
    precision: np.ndarray  # [n, 2, 2] inverse of the covariance on screen
    opacity: np.ndarray  # [n]
    depth: np.ndarray  # [n]
    normal: np.ndarray  # [n, 3]


def slope_of_perspective(point: np.ndarray, settings: RasterSettings) -> np.ndarray:
    """Derivative [2, 3] of pixels by camera coordinates."""
    columns = []
    for axis in range(3):
        moved = point.astype(complex)
        moved[axis] += 1j * STEP
        columns.append(to_pixels(moved, settings).imag / STEP)
    return np.stack(columns, axis=1)


def near_the_image(point: np.ndarray, settings: RasterSettings) -> np.ndarray:
    """The point at the same depth at which 3DGS differentiates: within 1.3 times the field of view
    where the principal point is in the middle, 0.3 of half a side beyond each border otherwise."""
    left, top = to_rays(np.array([-0.15 * settings.width, -0.15 * settings.height]), settings)
    right, bottom = to_rays(np.array([1.15 * settings.width, 1.15 * settings.height]), settings)
    x = np.clip(point[0] / point[2], left, right)
    y = np.clip(point[1] / point[2], top, bottom)
    return np.array([x, y, 1.0]) * point[2]


def to_rays(pixel: np.ndarray, settings: RasterSettings) -> np.ndarray:
    """x / z and y / z of a place on screen."""
    middle = np.array([settings.cx, settings.cy])
    return (pixel - middle) / np.array([settings.fx, settings.fy])


def screen_splats(ellipsoids: Ellipsoids, settings: RasterSettings) -> ScreenSplats:
    """Project, sort by centre depth, drop what lies before the near plane."""
    view = to_array(settings.world_to_view)
    turn = view[:3, :3]
    center = to_array(ellipsoids.means) @ turn.T + view[:3, 3]
    rotation = Rotation.from_quat(to_array(ellipsoids.rotations)[:, [1, 2, 3, 0]]).as_matrix()
    scales = to_array(ellipsoids.scales) * settings.scale_modifier
    order = np.argsort(center[:, 2], kind="stable")
    order = order[center[order, 2] > settings.near]
    precision, normals = np.zeros((len(order), 2, 2)), np.zeros((len(order), 3))
    for row, i in enumerate(order):
        in_world = rotation[i] @ np.diag(scales[i] ** 2) @ rotation[i].T
        in_camera = turn @ in_world @ turn.T
        slope = slope_of_perspective(near_the_image(center[i], settings), settings)
        on_screen = slope @ in_camera @ slope.T + 0.3 * np.eye(2)
        precision[row] = np.linalg.inv(on_screen)
        normals[row] = turn @ rotation[i][:, np.argmin(scales[i])]
        if normals[row] @ center[i] > 0:
            normals[row] *= -1
    pixels = to_pixels(center[order], settings)
    opacity = to_array(ellipsoids.opacities)[order, 0]
    return ScreenSplats(order, pixels, precision, opacity, center[order, 2], normals)


def pixel_weights(
    splats: ScreenSplats, pixel: tuple[int, int], shift: np.ndarray | None = None
) -> list[Contribution]:
    """Every contribution to a pixel; `shift` [n, 2] moves the splats on screen."""
    met = []
    for i in range(len(splats.order)):
        away = np.array(pixel) + 0.5 - splats.center[i]
        if shift is not None:
            away = away - shift[i]
        rho = away @ splats.precision[i] @ away
        met.append((i, float(splats.opacity[i] * np.exp(-rho / 2)), float(splats.depth[i])))
    return let_through(met)


def splat_ellipsoids(
    ellipsoids: Ellipsoids, settings: RasterSettings, shift: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """All images of `RasterOutput` (colours must be given as colours)."""
    splats = screen_splats(ellipsoids, settings)
    moved = None if shift is None else shift[splats.order]
    return compose(
        ellipsoids, splats.order, splats.normal, settings, lambda p: pixel_weights(splats, p, moved)
    )
