# SPDX-License-Identifier: Apache-2.0
"""A signed distance field to a mesh of triangles, by marching cubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from iqgs.export.mesh.fusion import SIDE, Field, block_keys
from iqgs.export.mesh.packages import require_mesh_packages

_GROUP = 8  # blocks along the edge of what is marched through at a time
_EXTENT = _GROUP * SIDE
_STEPS = 1 << 12  # places of vertices are told apart in steps of this part of a voxel
FEWEST_FACES = 50  # a piece with less is no surface


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, counter-clockwise seen from outside, in the coordinates of the run."""

    vertices: NDArray[np.float64]  # [V, 3]
    faces: NDArray[np.int64]  # [F, 3]
    colors: NDArray[np.uint8] | None = None  # [V, 3] sRGB
    labels: NDArray[np.int64] | None = None  # [V], object of each vertex, 0 = none

    def __len__(self) -> int:
        return len(self.faces)

    def part(self, kept: NDArray[np.bool_]) -> Mesh:
        """Those faces that a mask [F] selects, without the vertices that nothing needs."""
        used, faces = np.unique(self.faces[kept], return_inverse=True)
        return Mesh(
            self.vertices[used],
            faces.reshape(-1, 3),
            None if self.colors is None else self.colors[used],
            None if self.labels is None else self.labels[used],
        )


def extract_surface(field: Field) -> Mesh:
    """The zero level of a field, where both voxels beside it were seen; welded.

    Raises UserError without scikit-image.
    """
    require_mesh_packages()
    groups = torch.div(field.blocks.cpu(), _GROUP, rounding_mode="floor")
    # A group also needs the first voxels of those behind it along each axis.
    corners = torch.unique(
        torch.cat([groups - step for step in torch.cartesian_prod(*[torch.tensor([0, 1])] * 3)]),
        dim=0,
    )
    keys = block_keys(field.blocks).cpu().numpy()
    values = field.distance.cpu().numpy()
    vertices: list[NDArray[np.float64]] = []
    faces: list[NDArray[np.int64]] = []
    count = 0
    for corner in corners.numpy():
        found = _marched(_dense(keys, values, corner))
        if found is None:
            continue
        places, triangles = found
        vertices.append(places + corner * _EXTENT)
        faces.append(triangles + count)
        count += len(places)
    if not faces:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    mesh = _welded(np.concatenate(vertices), np.concatenate(faces))
    world = field.grid.to_world(torch.from_numpy(mesh.vertices)).numpy()
    return Mesh(world, mesh.faces)


def _dense(
    keys: NDArray[np.int64], values: NDArray[np.float32], corner: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The voxels [65, 65, 65] of one group of blocks, NaN where there is none."""
    side = _GROUP + 1
    axis = np.arange(side)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    wanted = block_keys(torch.from_numpy(corner * _GROUP + offsets)).numpy()
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    there = keys[place] == wanted
    dense = np.full((side, side, side, SIDE, SIDE, SIDE), np.nan, np.float32)
    dense.reshape(-1, SIDE, SIDE, SIDE)[there] = values[place[there]]
    cube = dense.transpose(0, 3, 1, 4, 2, 5).reshape((side * SIDE,) * 3)
    return cube[: _EXTENT + 1, : _EXTENT + 1, : _EXTENT + 1]


def _marched(
    cube: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Vertices in voxels and faces of the zero level of a cube; None without a surface."""
    from skimage.measure import marching_cubes

    seen = np.isfinite(cube)
    if not (cube < 0).any() or not (cube > 0).any():
        return None
    # With axes in the order x, y, z "descent" is what turns faces towards larger values, where free
    # space is.
    places, triangles, _, _ = marching_cubes(
        np.where(seen, cube, np.float32(1)), 0.0, gradient_direction="descent"
    )
    places = places.astype(np.float64)
    low, high = np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
    good = seen[tuple(low.T)] & seen[tuple(high.T)]
    triangles = triangles[good[triangles].all(axis=1)].astype(np.int64)
    return (places, triangles) if len(triangles) else None


def _welded(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> Mesh:
    """Vertices of neighbouring groups at one place become one; faces without an area go."""
    _, first, place = np.unique(
        np.round(vertices * _STEPS).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    faces = place.reshape(-1)[faces]
    a, b, c = faces.T
    return Mesh(vertices[first], faces).part((a != b) & (b != c) & (c != a))


def cleaned(mesh: Mesh, most: int, fewest_faces: int) -> Mesh:
    """The `most` largest connected pieces, of those with at least so many faces."""
    if not len(mesh):
        return mesh
    piece = piece_of_faces(mesh)
    sizes = np.bincount(piece)
    order = np.argsort(-sizes, kind="stable")[:most]
    kept = np.zeros(len(sizes), bool)
    kept[order[sizes[order] >= fewest_faces]] = True
    return mesh.part(kept[piece])


def piece_of_faces(mesh: Mesh) -> NDArray[np.int64]:
    """The number [F] of the connected piece that each face belongs to."""
    a, b, c = mesh.faces.T
    edges = (np.concatenate([a, b]), np.concatenate([b, c]))
    n = len(mesh.vertices)
    graph = coo_matrix((np.ones(len(edges[0]), np.int8), edges), shape=(n, n))
    _, piece = connected_components(graph, directed=False)
    return piece[a].astype(np.int64)
