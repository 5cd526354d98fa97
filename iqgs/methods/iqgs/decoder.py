# SPDX-License-Identifier: Apache-2.0
"""From instance attributes to scores: features (Eq. 2-3), queries (Eq. 4-5), scores (Eq. 6-7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sample_keys(features: Tensor, most: int, pooled: bool) -> Tensor:
    """At most `most` keys of a view from its features [P, D], P pixels in order.

    Every n-th pixel or, pooled, means of n consecutive ones: of random pixels that is a mean over
    the view, of a view row by row a mean along the row. n = ceil(P / most).
    """
    stride = max(1, -(-len(features) // most))
    if not pooled or stride == 1:
        return features[::stride]
    whole = len(features) // stride * stride
    means = features[:whole].view(-1, stride, features.shape[1]).mean(1)
    rest = features[whole:]
    return means if len(rest) == 0 else torch.cat([means, rest.mean(0, keepdim=True)])


class InstanceProjection(nn.Module):
    """Linear map from instance attributes [..., D_obj] to features [..., D] (Eq. 2-3).

    No bias: then P(Render(I)) = Render(P(I)) also where the accumulated opacity is below 1.
    """

    def __init__(self, instance_dim: int, feature_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(instance_dim)
        weight = torch.empty(feature_dim, instance_dim).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)

    def forward(self, instance: Tensor) -> Tensor:
        return instance @ self.weight.T


class Attention(nn.Module):
    """One head of scaled dot-product attention with its four linear maps."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(dim)
        weights = torch.empty(4, dim, dim).uniform_(-bound, bound, generator=generator)
        self.query, self.key, self.value, self.out = (nn.Parameter(w.clone()) for w in weights)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Queries [Q, D] look at context [P, D] -> [Q, D]."""
        # The map of the keys is applied to the queries instead: (qA)(cB)^T = (qAB^T)c^T. Likewise
        # the map of the values goes behind the softmax. Nothing of size [P, D] is made.
        looking = (queries @ self.query.T @ self.key) / math.sqrt(queries.shape[1])
        weights = torch.softmax(looking @ context.T, dim=-1)
        return (weights @ context) @ self.value.T @ self.out.T


class QueryDecoder(nn.Module):
    """Learned queries, enriched by the features of one view (Eq. 4-5).

    Q = LN(Q' + CrossAttn(Q', F)), then LN(Q + SelfAttn(Q)). Without the residual paths (Eq. 5 read
    literally, `residual=False`) attention is uniform at the start, all queries become the mean
    feature, receive the same gradient and stay identical for ever.
    """

    def __init__(
        self, num_queries: int, dim: int, generator: torch.Generator, residual: bool
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_queries, dim, generator=generator))
        self.cross_attention = Attention(dim, generator)
        self.self_attention = Attention(dim, generator)
        self.cross_norm = nn.LayerNorm(dim)
        self.self_norm = nn.LayerNorm(dim)
        self.scale = nn.Parameter(torch.ones(()))
        self.residual = residual

    def forward(self, context: Tensor) -> Tensor:
        """Features of one view [P, D] -> enriched queries [Q, D], the logit scale included."""
        if not self.residual:
            queries = self.cross_attention(self.queries, context)
            return self.self_attention(queries, queries) * self.scale
        queries = self.queries
        if context.shape[0] > 0:
            queries = queries + self.cross_attention(queries, context)
        queries = self.cross_norm(queries)
        queries = self.self_norm(queries + self.self_attention(queries, queries))
        return queries * self.scale


def score(queries: Tensor, features: Tensor) -> Tensor:
    """Dot products of queries [Q, D] and features [P, D] -> logits [Q, P] (Eq. 6-7)."""
    return queries @ features.T
