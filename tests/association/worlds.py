# SPDX-License-Identifier: Apache-2.0
"""Hand-made scenes: a flat world of objects seen through windows, with faults of trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from iqgs.association import MaskView

SIZE = 40  # pixels on a side of a view
BLEND = 3  # splats that share a pixel

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Splats in the unit square, and what each view shows."""

    objects: Labels  # [N] true object of every splat, 0: none
    weights: list[sparse.csr_matrix]  # [H W, N] of each view
    truth: list[Labels]  # [H, W] true ids of each view

    @property
    def ids(self) -> list[int]:
        """The true objects."""
        return sorted({int(i) for labels in self.truth for i in np.unique(labels) if i})

    def views(self, maps: list[Labels]) -> list[MaskView]:
        """The views with other masks than the true ones."""
        return [MaskView(w, labels.ravel()) for w, labels in zip(self.weights, maps, strict=True)]


def make_world(
    object_at: Callable[[NDArray[np.float64]], Labels],
    views: int = 16,
    splats: int = 4000,
    window: float = 0.6,
    seed: int = 0,
) -> World:
    """`object_at` tells the object of points [P, 2]; a view is a window of the square."""
    rng = np.random.default_rng(seed)
    positions = rng.random((splats, 2))
    tree, spacing = cKDTree(positions), splats**-0.5
    weights, truth = [], []
    for _ in range(views):
        corner = rng.random(2) * (1 - window)
        side = (np.arange(SIZE) + 0.5) / SIZE * window
        points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2) + corner
        distance, splat = tree.query(points, k=BLEND)
        weight = np.exp(-((distance / spacing) ** 2))
        weight = weight / weight.sum(1, keepdims=True) * 0.95
        start = np.arange(0, BLEND * len(points) + 1, BLEND)
        shape = (len(points), splats)
        entries = (weight.ravel().astype(np.float32), splat.ravel(), start)
        weights.append(sparse.csr_matrix(entries, shape=shape))
        truth.append(object_at(points).reshape(SIZE, SIZE).astype(np.int64))
    return World(object_at(positions).astype(np.int64), weights, truth)


def tiles(points: NDArray[np.float64]) -> Labels:
    """Nine objects on a background: discs on a grid."""
    cell = (points * 3).clip(0, 2.999).astype(int)
    inside = np.linalg.norm(points * 3 - cell - 0.5, axis=1) < 0.42
    return np.where(inside, 1 + cell[:, 0] * 3 + cell[:, 1], 0)


def plate_and_stick(points: NDArray[np.float64]) -> Labels:
    """A thin stick (2) on a large plate (1)."""
    plate = np.linalg.norm(points - 0.5, axis=1) < 0.45
    stick = (np.abs(points[:, 1] - 0.5) < 0.02) & (np.abs(points[:, 0] - 0.5) < 0.35)
    return np.where(stick, 2, np.where(plate, 1, 0))
