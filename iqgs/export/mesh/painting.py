# SPDX-License-Identifier: Apache-2.0
"""Colours and objects of a mesh, read from the views that see each vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from iqgs.export.mesh.surface import Mesh
from iqgs.export.mesh.views import DepthView

GREY = 128  # of what no view sees


def painted(mesh: Mesh, views: Sequence[DepthView], reach: float) -> Mesh:
    """The mesh with the mean colour and the commonest object of the views that see a vertex.

    A view sees it where its depth there is within `reach` of the vertex. Labels are given where the
    views have such; vertices that nobody sees are grey and of no object.
    """
    n = len(mesh.vertices)
    points = torch.from_numpy(mesh.vertices).float()
    color, seen = torch.zeros(n, 3), torch.zeros(n)
    votes: list[tuple[Tensor, Tensor]] = []
    for view in views:
        at = points.to(view.depth)
        x, y, z = view.project(at)
        rows = view.inside(x, y, z).nonzero()[:, 0]
        x, y, z = x[rows], y[rows], z[rows]
        close = (view.depth_at(x, y) - z).abs() <= reach
        rows, x, y = rows[close].cpu(), x[close], y[close]
        if view.color is not None:
            color[rows] += view.nearest(view.color, x, y).T.cpu().float()
            seen[rows] += 1
        if view.labels is not None:
            votes.append((rows, view.nearest(view.labels, x, y).cpu()))
    mean = torch.where(seen[:, None] > 0, color / seen[:, None].clamp_min(1), GREY)
    return replace(
        mesh,
        colors=mean.clamp(0, 255).round().to(torch.uint8).numpy(),
        labels=_winners(votes, n) if votes else None,
    )


def _winners(votes: Sequence[tuple[Tensor, Tensor]], count: int) -> np.ndarray:
    """The commonest label [count] of each vertex, of equally common ones the smallest."""
    rows = torch.cat([row for row, _ in votes]).numpy()
    labels = torch.cat([label for _, label in votes]).numpy()
    present, column = np.unique(labels, return_inverse=True)
    if not len(present):
        return np.zeros(count, np.int64)
    shape = (count, len(present))
    ballots: csr_matrix = coo_matrix((np.ones(len(rows), np.int32), (rows, column)), shape).tocsr()
    found = np.asarray(ballots.argmax(axis=1)).reshape(-1)
    voted = np.diff(ballots.indptr) > 0
    return np.where(voted, present[found], 0)


def of_object(mesh: Mesh, number: int) -> Mesh:
    """The faces of which most corners belong to an object."""
    if mesh.labels is None:
        raise ValueError("the mesh has no labels")
    return mesh.part((mesh.labels[mesh.faces] == number).sum(axis=1) >= 2)
