# SPDX-License-Identifier: Apache-2.0
"""Splats moved, turned and scaled as a whole: all that has a place, a direction or a size."""

from __future__ import annotations

import numpy as np
import torch

from scene.splat_files.columns import Arrays
from utils.geometry import quaternion_product
from utils.spherical_harmonics import rotation_matrix

_TOLERANCE = 1e-6  # of a rotation that was written with seven digits or more


def transformed(
    raw: Arrays,
    rotation: np.ndarray | None = None,
    scale: float = 1.0,
    translation: np.ndarray | None = None,
) -> Arrays:
    """The splats after x' = scale * rotation @ x + translation; `raw` itself stays as it is.

    `raw` has the keys and shapes of `GaussianModel.params` (log scales of two or three axes),
    `rotation` [3, 3] is proper, `scale` positive. Colours keep what they show along turned
    directions; opacity and instance attributes do not change. The inverse is another call:
    `transformed(.., rotation.T, 1 / scale, -rotation.T @ translation / scale)`.
    Raises ValueError where `rotation` or `scale` is none.
    """
    turn = np.eye(3) if rotation is None else checked_rotation(rotation)
    offset = np.zeros(3) if translation is None else np.asarray(translation, np.float64)
    if not (np.isfinite(scale) and scale > 0) or offset.shape != (3,):
        raise ValueError(f"expected a positive scale and a vector, got {scale} and {offset}")
    result = dict(raw)
    means = raw["means"].astype(np.float64) @ (scale * turn.T) + offset
    result["means"] = means.astype(np.float32)
    result["log_scales"] = (raw["log_scales"] + np.float32(np.log(scale))).astype(np.float32)
    if not np.array_equal(turn, np.eye(3)):
        from scipy.spatial.transform import Rotation  # slow to import, and few turn splats

        x, y, z, w = Rotation.from_matrix(turn).as_quat()
        turning = np.array([w, x, y, z]) * (-1.0 if w < 0 else 1.0)  # the inverse: its conjugate
        result["quaternions"] = quaternion_product(turning, raw["quaternions"])
        result["sh_rest"] = _turned_colors(raw["sh_rest"], turn)
    return result


def checked_rotation(rotation: np.ndarray) -> np.ndarray:
    """`rotation` as float64 [3, 3]; raises ValueError unless it is a proper rotation."""
    turn = np.asarray(rotation, np.float64)
    fits = turn.shape == (3, 3) and bool(np.isfinite(turn).all())
    if not fits or np.abs(turn @ turn.T - np.eye(3)).max() > _TOLERANCE or np.linalg.det(turn) < 0:
        raise ValueError(f"expected a rotation [3, 3], got {turn.tolist()}")
    return turn


def _turned_colors(sh_rest: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Coefficients [N, K - 1, 3] of the turned scene; the constant one (K = 1) stays."""
    count = sh_rest.shape[1]
    if count == 0:
        return sh_rest
    degree = int(np.sqrt(count + 1)) - 1
    matrix = rotation_matrix(torch.from_numpy(turn), degree)[1:, 1:]
    return np.matmul(matrix.numpy().astype(np.float32), sh_rest)
