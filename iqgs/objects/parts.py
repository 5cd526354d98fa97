# SPDX-License-Identifier: Apache-2.0
"""Splats of an object told apart by where they are."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from iqgs.objects.edits import Box
from scene.gaussian_model import GaussianModel

GAP_NEIGHBORS = 4  # the usual distance to the fourth neighbour says how dense an object is
GAP_FACTOR = 4.0  # pieces that are farther apart than so many usual distances are not connected
LEAST_SHARE = 0.02  # smaller pieces are dust: they stay with the largest


def inside_box(means: Tensor, box: Box) -> Tensor:
    """Which centres [N, 3] lie in a box, borders included; bool [N]."""
    corners = means.new_tensor(box).view(2, 3)
    return ((means >= corners[0]) & (means <= corners[1])).all(dim=1)


def beyond_plane(means: Tensor, plane: Box) -> Tensor:
    """Which centres [N, 3] lie on the side of a plane that its normal points to; bool [N].

    `plane` is a point on it and the normal, of any length.
    """
    point, normal = means.new_tensor(plane).view(2, 3)
    return (means - point) @ normal > 0


def connected_pieces(splats: GaussianModel) -> Tensor:
    """The spatially connected piece [N] int64 of each splat, the largest is 0, then by size.

    Two splats are connected where their centres are nearer than four times the median distance to
    the fourth neighbour, or than the sum of their larger scales. Pieces of less than 2 % of the
    splats are dust and count to the largest.
    """
    n = len(splats)
    if n <= GAP_NEIGHBORS:
        return torch.zeros(n, dtype=torch.int64)
    means = splats.means.detach().cpu().numpy().astype(np.float64)
    tree = cKDTree(means)
    distance, neighbor = tree.query(means, min(n, 4 * GAP_NEIGHBORS))
    usual = float(np.median(distance[:, GAP_NEIGHBORS]))
    reach = splats.scales.detach().cpu().numpy().max(axis=1)
    reach = np.minimum(reach, np.percentile(reach, 90))  # a spike must not bridge a gap
    near = distance <= np.maximum(GAP_FACTOR * usual, reach[:, None] + reach[neighbor])
    row, column = np.nonzero(near)
    links = coo_matrix((np.ones(len(row), np.int8), (row, neighbor[row, column])), shape=(n, n))
    _, piece = connected_components(links, directed=False)
    count = np.bincount(piece)
    order = np.lexsort((np.arange(len(count)), -count))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(count))
    rank[count < LEAST_SHARE * n] = 0
    return torch.from_numpy(rank[piece].astype(np.int64))
