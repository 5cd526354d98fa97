# SPDX-License-Identifier: Apache-2.0
"""A second renderer for the tests: rays cast in space, loops over pixels and splats, numpy.

It shares no formula with the package: rays meet planes in camera space, rotations come from
scipy, the box anchor from points on the rim, the distortion from the double sum. `ellipsoid_oracle`
is the same for 3D Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from diff_surfel_rasterization import RasterSettings, Splats, Surfels


@dataclass(frozen=True)
class CameraSplats:
    """Splats in the camera frame, front to back."""

    order: np.ndarray  # [n]
    center: np.ndarray  # [n, 3]
    axes: np.ndarray  # [n, 3, 3] columns t_u, t_v, n
    scale: np.ndarray  # [n, 2]
    opacity: np.ndarray  # [n]
    anchor: np.ndarray  # [n, 2]


# (sorted index, weight, T before, depth) of a splat that contributes to a pixel.
Contribution = tuple[int, float, float, float]


def to_array(tensor: object) -> np.ndarray:
    return tensor.detach().double().numpy()  # type: ignore[attr-defined]


def to_pixels(points: np.ndarray, settings: RasterSettings) -> np.ndarray:
    """Pixel positions of points in camera space."""
    x = settings.fx * points[..., 0] / points[..., 2] + settings.cx
    y = settings.fy * points[..., 1] / points[..., 2] + settings.cy
    return np.stack([x, y], axis=-1)


def rim_box_center(splats: CameraSplats, i: int, settings: RasterSettings) -> np.ndarray:
    """Centre of the box around the projected 3 sigma rim."""
    angle = np.linspace(0, 2 * np.pi, 40001)
    disc = 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1) * splats.scale[i]
    rim = splats.center[i] + disc @ splats.axes[i][:, :2].T
    pixels = to_pixels(rim, settings)
    return (pixels.min(axis=0) + pixels.max(axis=0)) / 2


def camera_splats(surfels: Surfels, settings: RasterSettings) -> CameraSplats:
    """Transform, sort by centre depth and drop what lies before the near plane."""
    view = to_array(settings.world_to_view)
    center = to_array(surfels.means) @ view[:3, :3].T + view[:3, 3]
    quaternion = to_array(surfels.rotations)[:, [1, 2, 3, 0]]
    axes = view[:3, :3] @ Rotation.from_quat(quaternion).as_matrix()
    order = np.argsort(center[:, 2], kind="stable")
    order = order[center[order, 2] > settings.near]
    scale = to_array(surfels.scales)[order] * settings.scale_modifier
    anchor = to_pixels(center[order], settings)
    opacity = to_array(surfels.opacities)[order, 0]
    splats = CameraSplats(order, center[order], axes[order], scale, opacity, anchor)
    if settings.low_pass_anchor == "aabb":
        for i in range(len(order)):
            anchor[i] = rim_box_center(splats, i, settings)
    return splats


def meet(
    splats: CameraSplats, i: int, ray: np.ndarray, moved: np.ndarray | None = None
) -> tuple[float, float]:
    """(rho3, depth) where the ray through (ray_x, ray_y, 1) meets the plane of splat i."""
    center = splats.center[i] if moved is None else moved
    normal = splats.axes[i][:, 2]
    depth = (normal @ center) / (normal @ ray)
    if depth <= 0:
        return np.inf, depth
    local = (depth * ray - center) @ splats.axes[i][:, :2] / splats.scale[i]
    return float(local @ local), depth


def pixel_weights(
    splats: CameraSplats,
    settings: RasterSettings,
    pixel: tuple[int, int],
    ray_shift: np.ndarray | None = None,
) -> list[Contribution]:
    """Every contribution to a pixel, front to back.

    ray_shift [n, 2] moves M_x[2], M_y[2], which is moving the centre sideways by shift / focal
    length, for the ray path only: the branch and the low-pass stay as they were.
    """
    x, y = pixel[0] + 0.5, pixel[1] + 0.5
    ray = np.array([(x - settings.cx) / settings.fx, (y - settings.cy) / settings.fy, 1.0])
    met = []
    for i in range(len(splats.order)):
        rho3, depth = meet(splats, i, ray)
        rho2 = 2.0 * float(((splats.anchor[i] - (x, y)) ** 2).sum())
        if rho3 <= rho2 and ray_shift is not None:
            shift = ray_shift[i] / (settings.fx, settings.fy)
            moved = splats.center[i] + np.array([shift[0], shift[1], 0.0])
            rho3, depth = meet(splats, i, ray, moved)
            rho = rho3
        else:
            rho = min(rho3, rho2)
        if rho3 > rho2 and settings.low_pass_depth == "center":
            depth = splats.center[i][2]
        if depth >= settings.near:
            met.append((i, float(splats.opacity[i] * np.exp(-rho / 2)), depth))
    return let_through(met)


def let_through(met: Sequence[tuple[int, float, float]]) -> list[Contribution]:
    """From (sorted index, alpha, depth) of the splats in the way of a pixel, front to back."""
    through, found = 1.0, []
    for i, alpha, depth in met:
        if alpha < 1 / 255:
            continue
        alpha = min(0.99, alpha)
        if through * (1 - alpha) < 1e-4:
            break
        found.append((i, alpha * through, through, depth))
        through *= 1 - alpha
    return found


def cast_rays(
    surfels: Surfels, settings: RasterSettings, ray_shift: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """All images of `RasterOutput` (colours must be given as colours)."""
    splats = camera_splats(surfels, settings)
    shift = None if ray_shift is None else ray_shift[splats.order]
    normals = splats.axes[:, :, 2].copy()
    normals[(normals * splats.center).sum(axis=1) > 0] *= -1
    return compose(
        surfels,
        splats.order,
        normals,
        settings,
        lambda p: pixel_weights(splats, settings, p, shift),
    )


def compose(
    given: Splats,
    order: np.ndarray,
    normals: np.ndarray,
    settings: RasterSettings,
    weights_of: Callable[[tuple[int, int]], list[Contribution]],
) -> dict[str, np.ndarray]:
    """The images, from the contributions to each pixel; `order` [n], `normals` [n, 3]."""
    colors = to_array(given.colors)[order]
    features = np.zeros((len(colors), 0))
    if given.features is not None:
        features = to_array(given.features)[order]
    values = np.concatenate([colors, features, normals], axis=1)
    size = (settings.height, settings.width)
    images = np.zeros((values.shape[1], *size))
    alpha, depth, median, distortion = (np.zeros((1, *size)) for _ in range(4))
    stretch = settings.far / (settings.far - settings.near)
    for y in range(settings.height):
        for x in range(settings.width):
            found = weights_of((x, y))
            for i, weight, before, z in found:
                images[:, y, x] += weight * values[i]
                alpha[0, y, x] += weight
                depth[0, y, x] += weight * z
                if before > 0.5:
                    median[0, y, x] = z
            w = np.array([f[1] for f in found])
            m = np.array([stretch * (1 - settings.near / f[3]) for f in found])
            distortion[0, y, x] = np.sum(np.outer(w, w) * (m[:, None] - m) ** 2) / 2
    background = to_array(settings.background)[:, None, None]
    return {
        "color": images[:3] + (1 - alpha) * background,
        "features": images[3:-3],
        "alpha": alpha,
        "depth": depth,
        "median_depth": median,
        "normal": images[-3:],
        "distortion": distortion,
    }
