# SPDX-License-Identifier: Apache-2.0
"""IQGS as one method: projection, decoder, matcher and criterion, and how its result is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from iqgs.criterion import SegmentationCriterion
from iqgs.decoder import InstanceProjection, QueryDecoder, sample_keys, score
from iqgs.matching import HungarianMatcher, IDMatcher, matching_sample
from iqgs.types import Matching, PointSegmentation, QueryPrediction, Segmentation, StepInputs
from iqgs.winners import Winners, find_winners, mean_scores, panoptic_keep

MEAN_MOMENTUM = 0.99  # running mean of queries over about the last hundred views
STEADY_MOMENTUM = 0.95  # of the queries that matching looks at: follows training in some views
USAGE_MOMENTUM = 0.99  # of how often a query was matched
SOLID_ALPHA = 0.5  # below it a pixel shows more of what lies behind the splats
EVEN_LOGIT = 0.0  # sigma(s) > 0.5 where s > 0


class IQGS(nn.Module):
    """Query-based instance segmentation of splats, with ID or Hungarian matching.

    Beside its parameters the state holds `matched`, the queries that ever owned an object in
    training (only they may win a pixel), and `mean_queries`, the enriched queries averaged over
    training views, which label the splats: `terms` keeps a running mean, and `average_queries`
    replaces it by the exact mean under the final weights.
    """

    matched: Tensor
    mean_queries: Tensor
    mean_weight: Tensor
    steady_queries: Tensor
    usage: Tensor

    def __init__(
        self,
        projection: InstanceProjection,
        decoder: QueryDecoder,
        matcher: IDMatcher | HungarianMatcher,
        criterion: SegmentationCriterion,
        *,
        weights: dict[str, float],
        background: bool,
        attention_pixels: int,
        pooled_keys: bool,
        matching_pixels: int,
        steady_matching: bool,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.decoder = decoder
        self.matcher = matcher
        self.criterion = criterion
        self.weights = weights
        self.background = background
        self.attention_pixels = attention_pixels
        self.pooled_keys = pooled_keys
        self.matching_pixels = matching_pixels
        self.steady_matching = steady_matching
        queries = decoder.queries
        self.register_buffer("matched", torch.zeros(queries.shape[0], dtype=torch.bool))
        self.register_buffer("mean_queries", torch.zeros_like(queries))
        self.register_buffer("mean_weight", torch.zeros(()))
        self.register_buffer("steady_queries", torch.zeros_like(queries))
        self.register_buffer("usage", torch.zeros(queries.shape[0]))

    def terms(self, step: StepInputs) -> dict[str, Tensor]:
        """Unweighted loss terms of one step; in training mode also notes which queries matched.

        With `steady_matching` the assignment is made by queries averaged over recent views: judged
        by its own enriched queries a view may swap two objects for good, and the attention then
        learns to swap them by view.
        """
        known = step.labels >= 0 if self.background else step.labels > 0
        keep = None if self.background and bool(known.all()) else known
        features = self.projection(step.features)
        queries = self.decoder(sample_keys(features, self.attention_pixels, self.pooled_keys))
        shown = features if keep is None else features[keep]
        labels = step.labels if keep is None else step.labels[keep]
        matching = self._match(queries, shown, labels)
        if self.training:
            self.matched[matching.query] = True
            self._remember(queries.detach(), matching.query)
        supervised = range(self.matcher.first, self.matcher.stop)
        prediction = QueryPrediction(queries, shown, supervised)
        return self.criterion(step, prediction, matching, keep, self.projection)

    @torch.no_grad()
    def _match(self, queries: Tensor, shown: Tensor, labels: Tensor) -> Matching:
        """Which query owns which object of the view; see `terms`."""
        matcher = self.matcher
        if isinstance(matcher, IDMatcher):
            return matcher(labels)
        if self.steady_matching and bool(self.mean_weight > 0):
            queries = self.steady_queries
        chosen = matching_sample(labels, self.matching_pixels)
        if chosen is not None:
            shown, labels = shown[chosen], labels[chosen]
        return matcher(score(queries[matcher.first : matcher.stop], shown), labels, self.usage)

    @torch.no_grad()
    def _remember(self, queries: Tensor, matched: Tensor) -> None:
        """Exponential means, exact over the first views: enriched queries, and who was matched."""
        self.mean_weight += 1.0
        newest = self.mean_weight.reciprocal()
        self.mean_queries.lerp_(queries, newest.clamp_min(1.0 - MEAN_MOMENTUM))
        self.steady_queries.lerp_(queries, newest.clamp_min(1.0 - STEADY_MOMENTUM))
        self.usage.mul_(USAGE_MOMENTUM)
        self.usage[matched] += 1.0 - USAGE_MOMENTUM

    @torch.no_grad()
    def enrich(self, instance_map: Tensor) -> Tensor:
        """Queries [Q, D] of a view with rendered attributes [D_obj, H, W]. Keys are the pixels of a
        regular grid or, pooled, the means of its cells."""
        height, width = instance_map.shape[-2:]
        stride = max(1, math.ceil(math.sqrt(height * width / self.attention_pixels)))
        if self.pooled_keys:
            sampled = avg_pool2d(instance_map[None], stride, ceil_mode=True)[0]
        else:
            sampled = instance_map[:, stride // 2 :: stride, stride // 2 :: stride]
        return self.decoder(self.projection(sampled.flatten(1).T))

    @torch.no_grad()
    def average_queries(self, instance_maps: Iterable[Tensor]) -> None:
        """Set the mean queries to the exact mean over views, each [D_obj, H, W]."""
        total, count = torch.zeros_like(self.mean_queries), 0
        for instance_map in instance_maps:
            total += self.enrich(instance_map)
            count += 1
        if count == 0:
            raise ValueError("expected at least one view to average the queries over")
        self.mean_queries.copy_(total / count)
        self.mean_weight.fill_(float(count))

    @torch.no_grad()
    def segment(
        self, instance_map: Tensor, panoptic: bool = True, alpha: Tensor | None = None
    ) -> Segmentation:
        """Instances of a rendered attribute map [D_obj, H, W]: argmax over the matched queries.

        With `panoptic` a query is kept in this view only if it wins most of its own mask. Pixels
        where nothing was rendered, and those of the background query, are 0. Ids are compact ids
        for ID matching and query numbers for Hungarian matching. With `alpha` [1, H, W] pixels that
        show more empty space than splats are 0: no feature speaks for what was not rendered.
        """
        queries, height = self.enrich(instance_map), instance_map.shape[1]
        columns = instance_map.flatten(1)
        if alpha is not None:
            columns = columns * (alpha.flatten() >= SOLID_ALPHA)
        labels, probability = self._decide(queries, columns, panoptic)
        return Segmentation(labels.view(height, -1), mean_scores(labels, probability))

    @torch.no_grad()
    def segment_points(self, instance: Tensor) -> PointSegmentation:
        """Instances of splats from their attributes [N, D_obj] by the mean enriched queries."""
        labels, confidence = self._decide(self.mean_queries, instance.T, panoptic=False)
        return PointSegmentation(labels, confidence)

    def _decide(self, queries: Tensor, columns: Tensor, panoptic: bool) -> tuple[Tensor, Tensor]:
        """Labels and winning probabilities of columns [D_obj, n]."""
        numbers = self.matched.nonzero().flatten()
        labels = torch.zeros(columns.shape[1], dtype=torch.int64, device=columns.device)
        probability = torch.zeros_like(columns[0])
        if numbers.numel() == 0 or columns.shape[1] == 0:
            return labels, probability
        winners = self._winners(queries[numbers], columns)
        if panoptic:
            keep = panoptic_keep(winners) | (numbers == 0)  # the background is no claim
            if bool((winners.area[~keep] > 0).any()):
                numbers = numbers[keep]
                if numbers.numel() == 0:
                    return labels, probability
                winners = self._winners(queries[numbers], columns)
        rendered = (columns != 0).any(dim=0)
        labels = torch.where(rendered, numbers[winners.row], labels)
        return labels, torch.where(rendered, torch.sigmoid(winners.value), probability)

    def _winners(self, queries: Tensor, columns: Tensor) -> Winners:
        weights = queries @ self.projection.weight  # [M, D_obj]: no feature map is formed
        count, size = weights.shape[0], columns.shape[1]
        return find_winners(lambda part: weights @ columns[:, part], count, size, EVEN_LOGIT)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; the learning rates are the engine's."""
        return [
            {"name": "projection", "params": list(self.projection.parameters())},
            {"name": "decoder", "params": list(self.decoder.parameters())},
        ]
