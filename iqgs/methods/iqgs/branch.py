# SPDX-License-Identifier: Apache-2.0
"""The query branch: attributes projected to features, and queries that a view enriches (Eq. 2-7).

What is learned from its scores, and how they decide, is up to the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from gaussian_renderer import Lens
from iqgs.methods.iqgs.decoder import InstanceProjection, QueryDecoder, sample_keys
from iqgs.methods.iqgs.params import BranchParams
from iqgs.methods.protocol import FitView
from iqgs.methods.winners import ScoreChunk

MEAN_MOMENTUM = 0.99  # running mean of queries over about the last hundred views


class QueryBranch(nn.Module):
    """Projection, decoder, and what training tells of the queries.

    Beside its parameters the state holds `matched`, the queries that ever owned an object in
    training (only they may win a pixel), and `mean_queries`, the enriched queries averaged over
    training views, which label the splats: `note` keeps a running mean, and `finish` replaces
    it by the exact mean under the final weights.
    """

    matched: Tensor
    mean_queries: Tensor
    mean_weight: Tensor

    def __init__(
        self, params: BranchParams, queries: int, instance_dim: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.projection = InstanceProjection(instance_dim, params.feature_dim, generator)
        residual = not params.literal_attention
        self.decoder = QueryDecoder(queries, params.feature_dim, generator, residual)
        self._most, self._pooled = params.attention_pixels, params.attention_keys == "pooled"
        learned = self.decoder.queries
        self.register_buffer("matched", torch.zeros(queries, dtype=torch.bool))
        self.register_buffer("mean_queries", torch.zeros_like(learned))
        self.register_buffer("mean_weight", torch.zeros(()))

    def enriched_by(self, features: Tensor) -> Tensor:
        """Queries [Q, D] of a view with features [P, D] of its pixels."""
        return self.decoder(sample_keys(features, self._most, self._pooled))

    @torch.no_grad()
    def note(self, queries: Tensor, matched: Tensor) -> Tensor:
        """Note the queries [M] that own something in a view and a mean over views of all queries
        [Q, D], exponential but exact over the first ones. Returns the weight of a newest view in
        an exact mean."""
        self.matched[matched] = True
        self.mean_weight += 1.0
        newest = self.mean_weight.reciprocal()
        self.mean_queries.lerp_(queries, newest.clamp_min(1.0 - MEAN_MOMENTUM))
        return newest

    def fit(self, views: Iterable[FitView]) -> None:
        """Nothing: queries are trained."""

    @torch.no_grad()
    def enrich(self, instance_map: Tensor) -> Tensor:
        """Queries [Q, D] of a view with rendered attributes [D_obj, H, W]. Keys are the pixels of a
        regular grid or, pooled, the means of its cells."""
        height, width = instance_map.shape[-2:]
        stride = max(1, math.ceil(math.sqrt(height * width / self._most)))
        if self._pooled:
            sampled = avg_pool2d(instance_map[None], stride, ceil_mode=True)[0]
        else:
            sampled = instance_map[:, stride // 2 :: stride, stride // 2 :: stride]
        return self.decoder(self.projection(sampled.flatten(1).T))

    @torch.no_grad()
    def finish(self, lenses: Iterable[Lens]) -> None:
        """Set the mean queries to the exact mean over these views."""
        total, count = torch.zeros_like(self.mean_queries), 0
        for lens in lenses:
            total += self.enrich(lens.features)
            count += 1
        if count == 0:
            raise ValueError("expected at least one view to average the queries over")
        self.mean_queries.copy_(total / count)
        self.mean_weight.fill_(float(count))

    def scores(self, queries: Tensor, columns: Tensor) -> ScoreChunk:
        """Logits of queries [M, D] for parts of the attributes [D_obj, n]."""
        weights = queries @ self.projection.weight  # [M, D_obj]: no feature map is formed
        return lambda part: weights @ columns[:, part]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; the learning rates are the engine's."""
        return [
            {"name": "projection", "params": list(self.projection.parameters())},
            {"name": "decoder", "params": list(self.decoder.parameters())},
        ]
