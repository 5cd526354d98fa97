# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from utils.neighbors import nearest_neighbors


def test_equals_brute_force() -> None:
    points = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    full = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=-1)
    np.fill_diagonal(full, np.inf)
    indices, distances = nearest_neighbors(points, 5)
    assert np.array_equal(indices, np.argsort(full, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :5], rtol=1e-5)
    assert distances.dtype == np.float32 and indices.dtype == np.int64


def test_tensors_give_the_same_as_arrays() -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    indices, distances = nearest_neighbors(points, 3)
    expected = nearest_neighbors(points.detach().numpy(), 3)
    assert np.array_equal(indices.numpy(), expected[0]) and not distances.requires_grad


def test_duplicates_are_neighbours_but_never_oneself() -> None:
    cluster = np.zeros((20, 3), np.float32)
    points = np.concatenate([cluster, np.ones((1, 3), np.float32)])
    indices, distances = nearest_neighbors(points, 4)
    assert (indices != np.arange(21)[:, None]).all()
    assert all(len(set(row)) == 4 for row in indices.tolist())
    assert (distances[:20] == 0).all() and np.allclose(distances[20], np.sqrt(3))


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_points_give_fewer_neighbours(n: int) -> None:
    indices, distances = nearest_neighbors(np.eye(4, 3, dtype=np.float32)[:n], 3)
    assert indices.shape == distances.shape == (n, max(0, min(3, n - 1)))


def test_identical_points_are_not_quadratic() -> None:
    start = time.process_time()
    indices, distances = nearest_neighbors(np.full((100_000, 3), 0.5, np.float32), 3)
    assert time.process_time() - start < 5 and (distances == 0).all()
    assert (indices != np.arange(100_000)[:, None]).all()


def test_refuses_what_has_no_neighbours() -> None:
    with pytest.raises(ValueError, match="finite"):
        nearest_neighbors(np.array([[0, 0, np.nan], [0, 0, 1]]), 1)
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        nearest_neighbors(np.zeros((4, 2)), 1)
