# SPDX-License-Identifier: Apache-2.0
"""Rotations and poses as numbers. Knows numpy alone, so that processes without torch may use it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def look_at(position: Floats, target: Floats, up: Floats) -> Floats:
    """World to view [4, 4] of a level camera at `position` that looks at `target`."""
    forward = (target - position) / max(float(np.linalg.norm(target - position)), 1e-9)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-6:  # straight up or down: any horizontal will do
        right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ position
    return pose


def quaternion_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hamilton product of wxyz quaternions that broadcast to [N, 4]: turn by `second`, then by
    `first`; float32."""
    a, b, c, d = np.moveaxis(np.asarray(first, np.float64), -1, 0)
    w, x, y, z = np.moveaxis(np.asarray(second, np.float64), -1, 0)
    product = [
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    ]
    return np.stack(product, axis=-1).astype(np.float32)
