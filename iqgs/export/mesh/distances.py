# SPDX-License-Identifier: Apache-2.0
"""How far a mesh is from known surfaces, and they from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from iqgs.export.mesh.surface import Mesh

Points = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """Mean distances in scene units; infinite where one side is empty."""

    accuracy: float  # from points of the mesh to the surface
    completeness: float  # from points of the surface to the mesh

    @property
    def chamfer(self) -> float:
        """The mean of both."""
        return (self.accuracy + self.completeness) / 2


def sampled(mesh: Mesh, spacing: float, rng: np.random.Generator) -> Points:
    """Points [N, 3] spread evenly over a mesh, on average one in a square of `spacing`."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    if not areas.sum() > 0:
        return np.zeros((0, 3))
    count = max(1, int(areas.sum() / spacing**2))
    face = rng.choice(len(areas), size=count, p=areas / areas.sum())
    # The root makes places even over the triangle (Osada et al. 2002, Eq. 1).
    u, v = np.sqrt(rng.uniform(size=(2, count, 1)) ** [[[1]], [[2]]])
    return (1 - u) * a[face] + u * (1 - v) * b[face] + u * v * c[face]


def surface_distances(mesh_points: Points, true_points: Points) -> SurfaceDistances:
    """Between points [N, 3] sampled on a mesh and [M, 3] on the true surface."""
    if not len(mesh_points) or not len(true_points):
        return SurfaceDistances(float("inf"), float("inf"))
    to_truth, _ = cKDTree(true_points).query(mesh_points, workers=-1)
    to_mesh, _ = cKDTree(mesh_points).query(true_points, workers=-1)
    return SurfaceDistances(float(to_truth.mean()), float(to_mesh.mean()))
