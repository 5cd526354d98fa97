# SPDX-License-Identifier: Apache-2.0
"""Clusters of directions, and what they answer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from iqgs.methods.clustering import (
    ClusterAnswer,
    ClusterParams,
    cluster_centers,
    cluster_directions,
    nearest_center,
    require_clustering,
)
from utils.errors import UserError


def bundles(count: int, each: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit vectors around the axes of space, and which axis each belongs to."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(count).repeat(each)
    directions = torch.eye(count + 2)[axis]
    return normalize(directions + 0.05 * torch.randn(directions.shape, generator=generator)), axis


def test_the_library_finds_the_bundles() -> None:
    pytest.importorskip("sklearn")
    features, axis = bundles(6, 40)
    found = cluster_directions(features.numpy(), ClusterParams())
    pairs = {(int(a), int(c)) for a, c in zip(axis, found, strict=True) if c >= 0}
    assert len(pairs) == 6 and len({c for _, c in pairs}) == 6
    assert (found >= 0).mean() > 0.9
    assert (cluster_directions(features.numpy()[:9], ClusterParams()) == -1).all()


def test_clusters_that_are_hardly_apart_are_one() -> None:
    """Three bundles within .01 of one another and one far away; the library's own option for it
    fails on such points with NumPy 2.4."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    kind = np.arange(240) % 4
    points = np.eye(4)[(kind == 3).astype(int)] + 1e-5 * rng.normal(size=(240, 4))
    points[:, 3] += np.array([0.0, 0.004, 0.008, 0.0])[kind]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    apart = cluster_directions(points, ClusterParams(cluster_epsilon=0.0))
    assert len({(int(k), int(c)) for k, c in zip(kind, apart, strict=True) if c >= 0}) == 4
    joined = cluster_directions(points, ClusterParams(cluster_epsilon=0.006))
    assert len({int(c) for c in joined if c >= 0}) == 2
    assert len({int(c) for c in joined[kind < 3] if c >= 0}) == 1
    assert (joined >= 0).sum() == (apart >= 0).sum()


def test_without_the_library_a_run_does_not_even_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UserError, match="--method saga .*pip install"):
        require_clustering("saga")


def test_centers_are_mean_directions_and_noise_has_none() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    centers = cluster_centers(features, torch.tensor([0, 0, 1, -1]))
    torch.testing.assert_close(centers, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))
    row, cosine = nearest_center(features, centers)
    assert row.tolist() == [0, 1, 1, 1]
    assert cosine.tolist() == pytest.approx([0.5**0.5, 0.8, 1.0, -0.6])


@pytest.fixture
def by_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster of a vector is its largest component, so that no library is needed."""

    def largest(points: np.ndarray, params: ClusterParams) -> np.ndarray:
        return points.argmax(axis=1).astype(np.int64)

    monkeypatch.setattr("iqgs.methods.clustering.cluster_directions", largest)


def test_every_splat_takes_the_nearest_cluster(by_axis: None) -> None:
    features, axis = bundles(4, 30)
    answer = ClusterAnswer(ClusterParams(cluster_splats=60), background=False, seed=0)
    answer.decide(features)
    assert torch.equal(answer.splats.labels, axis + 1)
    assert answer.splats.confidence.min() > 0.9 and answer.splats.confidence.max() <= 1.0
    again = ClusterAnswer(ClusterParams(), background=False, seed=3)
    again.load_state_dict(answer.state_dict())
    assert torch.equal(again.splats.labels, answer.splats.labels)


def test_what_shows_where_no_instance_is_is_none(by_axis: None) -> None:
    features, axis = bundles(4, 30)
    answer = ClusterAnswer(ClusterParams(), background=True, seed=0)
    answer.evidence = torch.ones(len(features), 2)
    answer.evidence[axis == 1, 0] = 1.5  # more than half on the background
    answer.evidence[axis == 3, 1] = 5.0
    answer.decide(features)
    assert answer.splats.labels.tolist() == torch.tensor([1, 0, 2, 3])[axis].tolist()
    kept = ClusterAnswer(ClusterParams(), background=True, seed=0)
    kept.load_state_dict(answer.state_dict())
    assert kept.evidence is not None and torch.equal(kept.evidence, answer.evidence)


def test_no_cluster_is_no_instance() -> None:
    pytest.importorskip("sklearn")
    answer = ClusterAnswer(ClusterParams(), background=False, seed=0)
    answer.decide(torch.eye(5))
    assert answer.splats.labels.tolist() == [0] * 5
    assert answer.splats.confidence.tolist() == [0.0] * 5
