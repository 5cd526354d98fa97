# SPDX-License-Identifier: Apache-2.0
"""Exact nearest neighbours in 3D: initial scales and the pairs of Eq. 13."""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from torch import Tensor


@overload
def nearest_neighbors(points: Tensor, k: int) -> tuple[Tensor, Tensor]: ...
@overload
def nearest_neighbors(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...
def nearest_neighbors(
    points: Tensor | np.ndarray, k: int
) -> tuple[Tensor, Tensor] | tuple[np.ndarray, np.ndarray]:
    """Find the `k` nearest other points of every point, nearest first.

    `points` is [N, 3], finite. Returns indices [N, min(k, N-1)] (int64) and Euclidean distances of
    the same shape (dtype of `points`); a point is never its own neighbour, but a duplicate is.
    Arrays give arrays; tensors give tensors on the same device.
    """
    if isinstance(points, Tensor):
        indices, distances = _search(points.detach().cpu().numpy(), k)
        return (
            torch.from_numpy(indices).to(points.device),
            torch.from_numpy(distances).to(points.device),
        )
    return _search(points, k)


def _search(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree  # a third of a second that many commands need not wait for

    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"expected points [N, 3], got {list(points.shape)}")
    if not np.isfinite(points).all():
        raise ValueError("points must be finite")
    n = len(points)
    k = min(k, n - 1)
    if k <= 0:
        return np.zeros((n, 0), np.int64), np.zeros((n, 0), points.dtype)
    if (points == points[0]).all():
        # One leaf would hold all points and every query would scan it: quadratic, so answer here.
        indices = (np.arange(n)[:, None] + np.arange(1, k + 1)) % n
        return indices.astype(np.int64), np.zeros((n, k), points.dtype)
    distances, indices = cKDTree(points).query(points, k=k + 1, workers=-1)
    return _drop_self(indices.astype(np.int64), distances.astype(points.dtype), k)


def _drop_self(indices: np.ndarray, distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Remove each row's own index; among many duplicates it may be absent: then drop the last."""
    keep = indices != np.arange(len(indices))[:, None]
    keep[keep.all(axis=1), -1] = False
    shape = (len(indices), k)
    return indices[keep].reshape(shape), distances[keep].reshape(shape)
