# SPDX-License-Identifier: Apache-2.0
"""Points of a sparse model in the place of splats: masks are joined before anything is trained.

A point that a view observed stands for itself in the mask that holds it. Points are seen by few
views, so they are propagated: a point is reprojected into the other views, and counts there where
its depth agrees with that of the points observed around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

OBSERVED, PROPAGATED = 1.0, 0.5  # weight of a point
NEAREST = 4  # observed points around a reprojected one that vote on the depth there
DEPTH_TOLERANCE = 0.05  # relative
CELLS = 48  # of the longer side; unobserved points count where they are near for their cell


@dataclass(frozen=True, eq=False)
class ProjectedPoints:
    """All N points as one view would see them if nothing were in the way."""

    pixels: NDArray[np.float64]  # [N, 2] x, y; first centre at 0.5
    depth: NDArray[np.float64]  # [N], positive in front of the camera
    observed: NDArray[np.bool_]  # [N] whether this view observed the point
    width: int
    height: int

    @property
    def inside(self) -> NDArray[np.bool_]:
        """[N] in front of the camera and on the picture."""
        x, y = self.pixels.T
        on_picture = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
        return on_picture & (self.depth > 0)


def propagate(points: ProjectedPoints) -> NDArray[np.bool_]:
    """Which points [N] the view shows, beside those that it observed."""
    inside = points.inside
    observed = points.observed & inside
    if observed.any():
        return _as_deep_as_observed(points, inside & ~observed, observed)
    return _nearest_of_cells(points, inside)


def _as_deep_as_observed(
    points: ProjectedPoints, asked: NDArray[np.bool_], observed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Of the points asked for those whose depth is that of most observed points around them."""
    shown = np.zeros(len(points.depth), bool)
    if not asked.any():
        return shown
    count = min(NEAREST, int(observed.sum()))
    tree = cKDTree(points.pixels[observed])
    at = tree.query(points.pixels[asked], k=count)[1].reshape(-1, count)
    around, own = points.depth[observed][at], points.depth[asked][:, None]
    shown[asked] = (np.abs(around - own) < DEPTH_TOLERANCE * own).mean(axis=1) > 0.5
    return shown


def _nearest_of_cells(points: ProjectedPoints, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points that are about as near as the nearest of their cell and its neighbours."""
    side = max(points.width, points.height) / CELLS
    cells = (points.pixels[inside] // side).astype(np.int64) + 1
    depth = points.depth[inside]
    nearest = np.full((CELLS + 3, CELLS + 3), np.inf)
    np.minimum.at(nearest, (cells[:, 1], cells[:, 0]), depth)
    limit = np.min(
        [np.roll(nearest, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0
    )
    shown = np.zeros(len(inside), bool)
    shown[inside] = depth < (1 + DEPTH_TOLERANCE) * limit[cells[:, 1], cells[:, 0]]
    return shown


def point_weights(
    points: ProjectedPoints, shown: NDArray[np.bool_]
) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """Weights [P, N] of the P points that a view observed or shows, and their pixels [P]
    (y * width + x): what blending weights are of splats.
    """
    observed = points.observed & points.inside
    chosen = np.flatnonzero(observed | shown)
    x, y = np.floor(points.pixels[chosen]).astype(np.int64).T
    weight = np.where(observed[chosen], OBSERVED, PROPAGATED).astype(np.float32)
    start = np.arange(len(chosen) + 1)
    shape = (len(chosen), len(points.depth))
    return sparse.csr_matrix((weight, chosen, start), shape=shape), y * points.width + x
