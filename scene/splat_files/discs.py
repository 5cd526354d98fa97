# SPDX-License-Identifier: Apache-2.0
"""From three scales to two: which splats of a file are discs, and what is left of others.

Viewers and editors know 3D Gaussians only, so a disc comes back from them with a third, vanishing
scale. It need not be the third: only its size tells which axis is the normal.
"""

from __future__ import annotations

import math

import numpy as np

from scene.splat_files.columns import VIEWER_LOG_SCALE, Arrays
from scene.splat_files.similarity import quaternion_product

# A splat is flat where its shortest axis is this much shorter than the next one. 3D Gaussians that
# were trained towards flatness end at a tenth to a twentieth.
FLAT_LOG_RATIO = math.log(1e-2)
# Discs that are themselves as small as the thickness viewers get exist in any trained scene.
FLAT_SHARE = 0.99
# Where one column is the same for all splats it is a thickness somebody wrote; formats with few
# bits for a scale (SPZ ends at exp(-10)) bring it closer to the others.
CONSTANT_SHARE = 0.5
_CONSTANT = 1e-3
# After the shortest axis i: the axes (i + 1, i + 2, i) form a right-handed frame again, turned by a
# third of a circle about the diagonal (wxyz, to be applied before the splat's own rotation).
_CYCLES = np.array([[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, -0.5, -0.5]])


def normal_axes(log_scales: np.ndarray) -> np.ndarray | None:
    """The flat axis [N] int of each splat of a file of discs; None for 3D Gaussians.

    `log_scales` [N, 3] are finite. In a file of discs nearly all splats are flat.
    """
    axis = written_thickness(log_scales)
    if axis is not None:
        return np.full(len(log_scales), axis)
    ordered = np.sort(log_scales, axis=1)
    flat = float(np.mean(ordered[:, 0] - ordered[:, 1] <= FLAT_LOG_RATIO))
    return log_scales.argmin(axis=1) if flat >= FLAT_SHARE else None


def written_thickness(log_scales: np.ndarray) -> int | None:
    """The axis whose scale [N, 3] somebody wrote for discs: one number, far below the others."""
    spread = log_scales.max(axis=0) - log_scales.min(axis=0)
    constant = np.flatnonzero(spread <= _CONSTANT)
    if len(constant) == 0:
        return None
    axis = int(constant[log_scales[0, constant].argmin()])
    others = np.delete(log_scales, axis, axis=1).min(axis=1)
    flat = np.mean(log_scales[:, axis] - others <= FLAT_LOG_RATIO) >= CONSTANT_SHARE
    return axis if flat else None


def without_axis(raw: Arrays, axes: np.ndarray) -> Arrays:
    """Discs: `raw` without the scale of axis `axes` [N], which becomes the third axis.

    The other two follow in cyclic order, so that the rotation stays proper; splats whose axis is
    the third already keep their quaternion to the bit.
    """
    rows = np.arange(len(axes))
    scales = raw["log_scales"]
    kept = np.stack([scales[rows, (axes + 1) % 3], scales[rows, (axes + 2) % 3]], axis=1)
    turned = np.flatnonzero(axes != 2)
    quaternions = raw["quaternions"].copy()
    quaternions[turned] = quaternion_product(quaternions[turned], _CYCLES[axes[turned]])
    return {**raw, "log_scales": kept, "quaternions": quaternions}


def thickness(log_scales: np.ndarray) -> float:
    """Median of the shortest axis over the middle one."""
    ordered = np.sort(log_scales, axis=1)
    return float(np.exp(np.median(ordered[:, 0] - ordered[:, 1])))


def with_thickness(log_scales: np.ndarray) -> np.ndarray:
    """Three scales [N, 3]; an axis of no thickness at all (minus infinity) gets that of viewers."""
    return np.where(np.isneginf(log_scales), np.float32(VIEWER_LOG_SCALE), log_scales)
