# SPDX-License-Identifier: Apache-2.0
"""A smooth camera path round what the cameras of a scene look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from scene.cameras import Camera
from utils.geometry import look_at

RADIUS_PERCENTILE = 90  # of the cameras' distances: a few far cameras do not widen the path
WIDEST_GAP = 2 * math.pi / 3  # a wider empty sector was never photographed: do not fly through it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """An ellipse of camera centres, all looking at one point."""

    focus: Floats  # [3] the point looked at
    center: Floats  # [3] middle of the ellipse, above the focus
    axes: Floats  # [2, 3] semi-axes, orthogonal to `up`
    up: Floats  # [3] unit
    start: float  # first azimuth, radians
    sweep: float  # 2 pi for a closed path, less for a there-and-back arc

    def position(self, azimuth: float) -> Floats:
        """Camera centre [3] at an azimuth."""
        return self.center + math.cos(azimuth) * self.axes[0] + math.sin(azimuth) * self.axes[1]

    def azimuths(self, frames: int) -> Floats:
        """Azimuths [frames] of a path whose last frame leads smoothly to its first."""
        turn = np.arange(frames) / frames
        if self.sweep < 2 * math.pi:
            turn = (1 - np.cos(2 * math.pi * turn)) / 2  # there and back, slow at the ends
        return self.start + self.sweep * turn


def focus_point(centers: Floats, forwards: Floats) -> Floats:
    """The point [3] nearest to all optical axes (least squares); centers, forwards [V, 3].

    Where the axes are parallel it lies in the middle of the cameras, moved forward by their spread.
    """
    across = np.eye(3) - forwards[:, :, None] * forwards[:, None, :]
    system = across.sum(axis=0)
    ahead = forwards.mean(axis=0) * max(float(np.ptp(centers, axis=0).max()), 1.0)
    if np.linalg.cond(system) > 1e6:
        return centers.mean(axis=0) + ahead
    return np.linalg.solve(system, (across @ centers[:, :, None]).sum(axis=0))[:, 0]


def fit_ellipse(cameras: Sequence[Camera]) -> Ellipse:
    """The ellipse that the cameras of a scene lie about."""
    if not cameras:
        raise ValueError("expected at least one camera")
    poses = np.stack([camera.world_to_view.numpy() for camera in cameras])
    centers = -np.einsum("vji,vj->vi", poses[:, :3, :3], poses[:, :3, 3])
    focus = focus_point(centers, poses[:, 2, :3])
    up = -poses[:, 1, :3].mean(axis=0)  # images' y points down
    up /= max(float(np.linalg.norm(up)), 1e-9)
    offsets = centers - focus
    heights = offsets @ up
    flat = offsets - heights[:, None] * up
    directions = np.linalg.eigh(flat.T @ flat)[1].T[::-1]
    first = directions[0] - (directions[0] @ up) * up
    if np.linalg.norm(first) < 1e-6:
        first = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    first /= np.linalg.norm(first)
    frame = np.stack([first, np.cross(up, first)])
    radii = np.percentile(np.abs(flat @ frame.T), RADIUS_PERCENTILE, axis=0)
    radii = np.maximum(radii, 0.3 * max(float(radii.max()), 1e-3))  # never a line
    start, sweep = _covered_sector(flat @ frame.T / radii)
    center = focus + float(heights.mean()) * up
    return Ellipse(focus, center, frame * radii[:, None], up, start, sweep)


def _covered_sector(flat: Floats) -> tuple[float, float]:
    """Start and width of the sector in which cameras stand; all round if no gap is wide."""
    angles = np.sort(np.arctan2(flat[:, 1], flat[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * math.pi))
    widest = int(gaps.argmax())
    if gaps[widest] < WIDEST_GAP:
        return 0.0, 2 * math.pi
    sweep = max(2 * math.pi - float(gaps[widest]), math.pi / 12)  # one camera still moves a little
    middle = angles[(widest + 1) % len(angles)] + (2 * math.pi - float(gaps[widest])) / 2
    return float(middle - sweep / 2), sweep


def path_cameras(cameras: Sequence[Camera], frames: int) -> list[Camera]:
    """`frames` cameras along the path, with the intrinsics of the first camera."""
    ellipse = fit_ellipse(cameras)
    return [
        replace(
            cameras[0],
            world_to_view=torch.from_numpy(
                look_at(ellipse.position(azimuth), ellipse.focus, ellipse.up)
            ),
            name=f"path/{index:05d}",
            uid=index,
        )
        for index, azimuth in enumerate(ellipse.azimuths(frames))
    ]
