# SPDX-License-Identifier: Apache-2.0
"""IQGS as one method: projection, decoder, matcher and criterion, and how its result is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer import Lens
from iqgs.methods.iqgs.branch import QueryBranch
from iqgs.methods.iqgs.correction import GivenMasks, corrected
from iqgs.methods.iqgs.criterion import QueryPrediction, SegmentationCriterion
from iqgs.methods.iqgs.decoder import score
from iqgs.methods.iqgs.matching import HungarianMatcher, IDMatcher, Matching, MatchingCost
from iqgs.methods.iqgs.params import HungarianParams, IQGSParams
from iqgs.methods.protocol import (
    Batch,
    IdKind,
    SceneFacts,
    Segmentation,
    SplatLabels,
    StepTerms,
)
from iqgs.methods.winners import (
    SOLID_ALPHA,
    Winners,
    find_winners,
    mean_scores,
    panoptic_keep,
    without_dropped,
)
from scene.gaussian_model import GaussianModel
from utils.errors import UserError

STEADY_MOMENTUM = 0.95  # of the queries that matching looks at: follows training in some views
USAGE_MOMENTUM = 0.99  # of how often a query was matched
EASY_GAMMA = 2.0  # of the focal term on masks that agree
DOUBTED_IOU = 0.2  # from which a mask changes its object, where nobody mended the masks before
EVEN_LOGIT = 0.0  # sigma(s) > 0.5 where s > 0


@dataclass(frozen=True)
class SeenQueries:
    """What a step leaves for the running statistics."""

    queries: Tensor  # [Q, D] enriched, detached
    matched: Tensor  # [M] int64
    shown: Tensor  # [I] int64 ids that the masks say the view shows


def build(params: IQGSParams, facts: SceneFacts, generator: torch.Generator) -> IQGS:
    """A fresh decoder for the ids of a scene; `num_queries` 0 is decided here. UserError.

    Tracks of an association are ids like any other: nothing is left to be matched in each view.
    """
    if params.focal_gamma == -1:
        params = replace(params, focal_gamma=0.0 if facts.noisy else EASY_GAMMA)
    if params.correction_iou == -1:  # gamma 0 is sure too early to be asked about masks
        params = replace(params, correction_iou=0.0 if facts.noisy else DOUBTED_IOU)
    hungarian = isinstance(params, HungarianParams) and not facts.tracks
    queries = params.num_queries
    if queries == 0:
        # about twice the objects of the densest view (DETR's habit), or one query an id
        queries = 2 * facts.densest_view + 1 if hungarian else facts.num_ids + 1
        queries = max(queries, 2)
    if queries < 2:
        raise UserError("--num_queries must be at least 2: query 0 stands for no instance.")
    matcher: IDMatcher | HungarianMatcher
    if isinstance(params, HungarianParams) and hungarian:
        cost = MatchingCost(
            params.lambda_mask, params.lambda_dice, params.focal_gamma, params.alpha
        )
        matcher = HungarianMatcher(queries, facts.zero_is_background, cost, params)
    else:
        matcher = IDMatcher(queries, facts.num_ids, facts.zero_is_background)
    method = IQGS(params, queries, matcher, facts.instance_dim, generator)
    if facts.tracks:
        method.ids = "clusters"
    return method


class IQGS(QueryBranch):
    """Query-based instance segmentation of splats, with ID or Hungarian matching."""

    steady_queries: Tensor
    usage: Tensor
    together: Tensor  # [K + 1, K + 1] bool, ids that some view shows both; empty: never asked

    def __init__(
        self,
        params: IQGSParams,
        queries: int,
        matcher: IDMatcher | HungarianMatcher,
        instance_dim: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(params, queries, instance_dim, generator)
        self.matcher = matcher
        self.params = params
        self.criterion = SegmentationCriterion(params)
        self.ids: IdKind = "global" if isinstance(matcher, IDMatcher) else "queries"
        self.register_buffer("steady_queries", torch.zeros_like(self.mean_queries))
        self.register_buffer("usage", torch.zeros(queries))
        known = matcher.num_ids + 1 if isinstance(matcher, IDMatcher) and self._doubts else 0
        self.register_buffer("together", torch.zeros(known, known, dtype=torch.bool))

    @property
    def _doubts(self) -> bool:
        """Whether masks are corrected; ids that are fresh in every view say nothing of others."""
        return self.params.correction_iou > 0 and isinstance(self.matcher, IDMatcher)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term (Eq. 15)."""
        return self.params.weights

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """The neighbour pairs of Eq. 13."""
        wanted = self.params.reg3d_sample_size if self.params.lambda_reg else 0
        return self.params.reg3d_k, wanted, self.params.reg3d_interval

    def terms(self, batch: Batch) -> StepTerms:
        """Unweighted loss terms of one step, and what `observe` keeps of it."""
        features = self.projection(batch.features)
        given = batch.labels
        ids = torch.unique(given.clamp_min(0)) if self._doubts else given[:0]
        batch = replace(batch, labels=self._believed(batch, features))
        keep = self._labelled(batch.labels)
        queries = self.enriched_by(features)
        shown = features if keep is None else features[keep]
        labels = batch.labels if keep is None else batch.labels[keep]
        matching = self._match(queries, shown, labels)
        supervised = range(self.matcher.first, self.matcher.stop)
        prediction = QueryPrediction(queries, shown, supervised)
        terms = self.criterion(batch, prediction, matching, keep, self.projection)
        seen = SeenQueries(queries.detach(), matching.query, ids)
        return StepTerms(terms, seen, self._doubt(given, batch.labels))

    def _doubt(self, given: Tensor, believed: Tensor) -> Tensor | None:
        """How many of the labels were not believed, as a share. What is matched in each view
        alone may be matched to others in the next: all of it is in doubt."""
        if isinstance(self.matcher, HungarianMatcher):
            return torch.ones((), device=given.device)
        return None if believed is given else (believed != given).float().mean()

    def _believed(self, batch: Batch, features: Tensor) -> Tensor:
        """The labels [P] to learn from; with `correction_iou` none that the scene contradicts."""
        if not self._doubts:
            return batch.labels
        taught = self.matched.nonzero().flatten()
        regions = batch.labels if batch.regions is None else batch.regions()
        given = GivenMasks(batch.labels, regions, self.together)
        queries, least = self.steady_queries[taught], self.params.correction_iou
        return corrected(given, queries, taught, features, least)

    def _labelled(self, labels: Tensor) -> Tensor | None:
        """The pixels [P] bool that have a target; None: all of them."""
        if not self.matcher.background:
            return labels > 0
        return labels >= 0 if bool((labels < 0).any()) else None

    @torch.no_grad()
    def _match(self, queries: Tensor, shown: Tensor, labels: Tensor) -> Matching:
        """Which query owns which object of the view.

        With `steady_matching` the assignment is made by queries averaged over recent views: judged
        by its own enriched queries a view may swap two objects for good, and the attention then
        learns to swap them by view.
        """
        if self.matcher.steady and bool(self.mean_weight > 0):
            queries = self.steady_queries
        candidates = queries[self.matcher.first : self.matcher.stop]

        def logits(chosen: Tensor | None) -> Tensor:
            return score(candidates, shown if chosen is None else shown[chosen])

        return self.matcher(labels, logits, self.usage)

    @torch.no_grad()
    def observe(self, seen: SeenQueries) -> None:
        """Note which queries matched, and exponential means that are exact over the first views."""
        newest = self.note(seen.queries, seen.matched)
        self.steady_queries.lerp_(seen.queries, newest.clamp_min(1.0 - STEADY_MOMENTUM))
        self.usage.mul_(USAGE_MOMENTUM)
        self.usage[seen.matched] += 1.0 - USAGE_MOMENTUM
        if self._doubts:
            self.together[seen.shown[:, None], seen.shown] = True

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """As for every module; states of older versions do not say which ids met."""
        state.setdefault(f"{prefix}together", self.together)
        super()._load_from_state_dict(state, prefix, *others)

    @torch.no_grad()
    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """Instances of a view: argmax over the matched queries.

        With `panoptic` a query is kept in this view only if it wins most of its own mask. Pixels
        where nothing was rendered, those that show more empty space than splats (no feature speaks
        for what was not rendered), and those of the background query are 0. Ids are compact ids
        for ID matching and query numbers for Hungarian matching.
        """
        decision = lens.once(self, lambda: self._decision(lens))
        labels, probability = decision.labels(panoptic)
        scores = mean_scores(labels, probability)
        return Segmentation(labels.view(lens.alpha.shape[1], -1), scores, self.ids)

    def _decision(self, lens: Lens) -> _Decision:
        features = lens.features
        columns = features.flatten(1) * (lens.alpha.flatten() >= SOLID_ALPHA)
        return _Decision(self, self.enrich(features), columns)

    @torch.no_grad()
    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """Instances of splats from their attributes, by the mean enriched queries."""
        instance = gaussians.instance.detach()
        labels, confidence = _Decision(self, self.mean_queries, instance.T).labels(panoptic=False)
        return SplatLabels(labels, confidence, self.ids)


class _Decision:
    """Which matched query wins each of the columns [D_obj, n]: with and without a filter."""

    def __init__(self, method: IQGS, queries: Tensor, columns: Tensor) -> None:
        self.numbers = method.matched.nonzero().flatten()
        self.method, self.queries, self.columns = method, queries[self.numbers], columns
        self.winners: Winners | None = None
        if self.numbers.numel() and columns.shape[1]:
            self.winners = self._winners(self.queries, columns)
            self.rendered = (columns != 0).any(dim=0)

    def labels(self, panoptic: bool) -> tuple[Tensor, Tensor]:
        """Labels [n] and winning probabilities [n]."""
        nothing = torch.zeros(self.columns.shape[1], dtype=torch.int64, device=self.columns.device)
        zero = nothing.to(self.columns)
        if self.winners is None:
            return nothing, zero
        row, value, shown = self.winners.row, self.winners.value, self.rendered
        if panoptic:
            keep = panoptic_keep(self.winners) | (self.numbers == 0)  # background is no claim
            if not bool(keep.any()):
                return nothing, zero
            row, value = without_dropped(self.winners, keep, self._again)
        labels = torch.where(shown, self.numbers[row], nothing)
        return labels, torch.where(shown, torch.sigmoid(value), zero)

    def _again(self, rows: Tensor, columns: Tensor) -> Winners:
        return self._winners(self.queries[rows], self.columns[:, columns])

    def _winners(self, queries: Tensor, columns: Tensor) -> Winners:
        scores, count = self.method.scores(queries, columns), queries.shape[0]
        return find_winners(scores, count, columns.shape[1], EVEN_LOGIT)
