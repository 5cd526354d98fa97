# SPDX-License-Identifier: Apache-2.0
"""Answers out of features that only say what belongs together: clusters of splats.

Some splats are clustered by their directions (HDBSCAN, Campello et al. 2013), and every splat takes
the cluster whose mean direction is nearest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from arguments import option, require_at_least
from gaussian_renderer import MIN_WEIGHT
from iqgs.methods.hard_labels import SplatAnswer
from iqgs.methods.protocol import FitView, IdKind
from utils.errors import UserError

logger = logging.getLogger(__name__)

CHUNK = 1 << 16  # splats that are compared with all clusters at once
BACKGROUND_SHARE = 0.5  # a cluster with more of its weight on pixels of no instance is none


@dataclass(frozen=True)
class ClusterParams:
    """How features become instances."""

    cluster_splats: int = option(20000, "random splats that are clustered, at most")
    cluster_min_size: int = option(10, "HDBSCAN: fewer of them are no cluster")
    cluster_epsilon: float = option(0.01, "clusters with mean directions nearer than this are one")

    def __post_init__(self) -> None:
        require_at_least(self, 2, "cluster_splats", "cluster_min_size")
        require_at_least(self, 0, "cluster_epsilon")


def require_clustering(method: str) -> None:
    """UserError where the library is missing: before a run, not at its end."""
    try:
        import sklearn.cluster  # noqa: F401
    except ImportError:
        raise UserError(
            f'--method {method} clusters its features with scikit-learn: pip install "scikit-learn'
            '>=1.3" (the extra "clusters" of this package)'
        ) from None


def cluster_directions(points: NDArray[np.floating], params: ClusterParams) -> NDArray[np.int64]:
    """Cluster of each unit vector [n, D]: 0..C-1, -1 for noise. HDBSCAN, excess of mass; clusters
    whose mean directions are nearer than `cluster_epsilon` are one.

    Distances are those of the sphere's points, |a - b| = sqrt(2 - 2 cos). The library has an option
    of that name, but with NumPy 2.4 it fails as soon as it matters (scikit-learn issue 33219).
    """
    from sklearn.cluster import HDBSCAN  # a second that other methods need not wait for

    if len(points) < params.cluster_min_size:
        return np.full(len(points), -1, np.int64)
    library = HDBSCAN(min_cluster_size=params.cluster_min_size, copy=True)
    found = np.maximum(library.fit_predict(points.astype(np.float64)), -1).astype(np.int64)
    return joined_clusters(points, found, params.cluster_epsilon)


def joined_clusters(
    points: NDArray[np.floating], clusters: NDArray[np.int64], epsilon: float
) -> NDArray[np.int64]:
    """The clusters [n] of points [n, D] after those with means nearer than `epsilon` became one,
    also by way of others between them."""
    from scipy.sparse.csgraph import connected_components

    centers = cluster_centers(torch.from_numpy(points), torch.from_numpy(clusters)).numpy()
    if len(centers) == 0:
        return clusters
    near = np.linalg.norm(centers[:, None] - centers, axis=2) < epsilon
    number = connected_components(near, directed=False)[1].astype(np.int64)
    return np.where(clusters >= 0, number[clusters], -1)


def cluster_centers(features: Tensor, clusters: Tensor) -> Tensor:
    """Mean direction [C, D] of unit features [n, D] in each of clusters [n] (-1: in none)."""
    inside = clusters >= 0
    count = int(clusters.max()) + 1 if bool(inside.any()) else 0
    total = features.new_zeros(count, features.shape[1])
    total.index_add_(0, clusters[inside], features[inside])
    return normalize(total, dim=1)


def nearest_center(features: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """(row [N], cosine [N]) of the centre [C, D] nearest to each unit feature [N, D]."""
    rows, cosines = [], []
    for part in features.split(CHUNK):
        cosine, row = (part @ centers.T).max(dim=1)
        rows.append(row)
        cosines.append(cosine)
    return torch.cat(rows), torch.cat(cosines)


class ClusterAnswer(SplatAnswer):
    """Instances as clusters: numbers 1..C, 0 for what the masks call no instance."""

    ids: IdKind = "clusters"

    def __init__(self, params: ClusterParams, background: bool, seed: int) -> None:
        """`background`: id 0 of the masks is no instance, rather than unknown."""
        super().__init__()
        self.params, self.background, self.seed = params, background, seed
        self.evidence: Tensor | None = None  # [N, 2] weight on pixels of no instance, and on others

    @torch.no_grad()
    def look_at(self, views: Iterable[FitView]) -> None:
        """How much of every splat shows where the masks say that no instance is."""
        for view in views if self.background else ():
            weights, labels = view.lens.weights(MIN_WEIGHT), view.labels.reshape(-1)
            if self.evidence is None:
                self.evidence = torch.zeros(weights.n_splats, 2, device=labels.device)
            per_weight = torch.repeat_interleave(labels, weights.row_start.diff())
            for column, said in enumerate((per_weight == 0, per_weight > 0)):
                splat, weight = weights.splat[said].long(), weights.weight[said]
                self.evidence[:, column].index_add_(0, splat, weight)

    @torch.no_grad()
    def decide(self, features: Tensor) -> None:
        """Cluster splats by their unit features [N, D]; the same ones give the same answer."""
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randperm(len(features), generator=generator)[: self.params.cluster_splats]
        sample = features[chosen.to(features.device)]
        found = cluster_directions(sample.cpu().numpy(), self.params)
        clusters = torch.from_numpy(found).to(features.device)
        centers = cluster_centers(sample, clusters)
        if len(centers) == 0:
            logger.warning("no cluster was found in the features of %d splats", len(sample))
            self.confidence = torch.zeros(len(features), device=features.device)
            self.labels = self.confidence.long()
            return
        row, cosine = nearest_center(features, centers)
        self.labels = self._numbers(row, len(centers))[row]
        self.confidence = 0.5 + 0.5 * cosine.clamp(-1, 1)
        logger.info(
            "%d clusters among %d splats, %d of these in none",
            len(centers),
            len(sample),
            int((clusters < 0).sum()),
        )

    def _numbers(self, row: Tensor, count: int) -> Tensor:
        """Number [C] of each cluster: 1.., 0 for those that mostly show where no instance is."""
        if self.evidence is None:
            return torch.arange(1, count + 1, device=row.device)
        shown = torch.zeros(count, 2, device=row.device).index_add_(0, row, self.evidence)
        instance = shown[:, 0] <= BACKGROUND_SHARE * shown.sum(dim=1)
        return torch.where(instance, instance.cumsum(0), 0)

    def to(self, device: str | torch.device) -> Any:
        """Move everything to a device; returns self."""
        if self.evidence is not None:
            self.evidence = self.evidence.to(device)
        return super().to(device)

    def state_dict(self) -> dict[str, Any]:
        """Labels and evidence."""
        state = super().state_dict()
        return state if self.evidence is None else {**state, "evidence": self.evidence}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state)
        found = state.get("evidence")
        self.evidence = None if found is None else found.to(self.labels.device)
