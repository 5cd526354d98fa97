# SPDX-License-Identifier: Apache-2.0
"""The terms of the loss (Eq. 11-14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from iqgs.methods.iqgs.decoder import InstanceProjection, score
from iqgs.methods.iqgs.losses import mask_losses, neighbor_loss, overlap_loss
from iqgs.methods.iqgs.matching import Matching, owners
from iqgs.methods.iqgs.params import IQGSParams
from iqgs.methods.protocol import Batch
from utils.tensors import select_rows

CELLS_AT_ONCE = 1 << 24  # pixels (or splats) times queries of the consistency term: 64 MB a tensor


@dataclass(frozen=True)
class QueryPrediction:
    """Queries and pixels of one view. Logits are their products, formed where they are needed and
    never for all queries and pixels of a view at once.
    """

    queries: Tensor  # [Q, D] all enriched queries of the view
    features: Tensor  # [P, D] of the supervised pixels
    supervised: range  # the queries that the losses are about


@dataclass(frozen=True)
class SegmentationCriterion:
    """Which terms are formed, and how; never their weights."""

    params: IQGSParams

    @property
    def names(self) -> set[str]:
        """The terms to form, in the order of Eq. 15; a term of weight 0 costs nothing."""
        return {name for name, weight in self.params.weights.items() if weight != 0.0}

    def __call__(
        self,
        step: Batch,
        prediction: QueryPrediction,
        matching: Matching,
        keep: Tensor | None,
        projection: InstanceProjection,
    ) -> dict[str, Tensor]:
        """All terms of one view.

        `keep` [P] bool marks the pixels that the prediction is about, None all of them. Sums over
        queries are divided by the number M of matched ones, the unmatched included.
        """
        if matching.query.numel() == 0:  # no labelled pixel was sampled: nothing to learn from
            zero = step.features.sum() * 0.0
            return {name: zero for name in self.params.weights if name in self.names}
        labels = step.labels if keep is None else step.labels[keep]
        terms = self._image_terms(prediction, matching, labels)
        terms.update(self._scene_terms(step, prediction, matching, keep, projection))
        return terms

    def _image_terms(
        self, prediction: QueryPrediction, matching: Matching, labels: Tensor
    ) -> dict[str, Tensor]:
        """Focal on every supervised query, empty masks included; dice on the matched ones."""
        first, stop = prediction.supervised.start, prediction.supervised.stop
        queries = prediction.queries[first:stop]
        owner = owners(matching, labels) - first
        gamma, alpha = self.params.focal_gamma, self.params.alpha
        focal, dice = mask_losses(queries, prediction.features, owner, gamma, alpha)
        divisor = matching.query.numel()
        terms = {}
        if "mask" in self.names:
            terms["mask"] = focal.sum() / divisor
        if "dice" in self.names:
            terms["dice"] = dice[matching.query - first].sum() / divisor
        return terms

    def _scene_terms(
        self,
        step: Batch,
        prediction: QueryPrediction,
        matching: Matching,
        keep: Tensor | None,
        projection: InstanceProjection,
    ) -> dict[str, Tensor]:
        """Smoothness over neighbour pairs and agreement of splats with pixels, present queries."""
        wanted = self.names & {"reg3d", "consistency"}
        if not wanted:
            return {}
        # One gather for both terms: its backward fills one dense [N, D_obj] tensor, not two.
        index = torch.cat([step.touched, step.pairs.T.reshape(-1)])
        features = projection(select_rows(step.instance, index))
        touched, paired = features.split([len(step.touched), 2 * len(step.pairs)])
        present = prediction.queries[matching.query]
        terms = {}
        if "reg3d" in wanted:
            terms["reg3d"] = self._smoothness(paired, present)
        if "consistency" in wanted:
            terms["consistency"] = self._consistency(step, prediction, touched, present, keep)
        return terms

    def _consistency(
        self,
        step: Batch,
        prediction: QueryPrediction,
        touched: Tensor,
        present: Tensor,
        keep: Tensor | None,
    ) -> Tensor:
        """Eq. 14, mean over the M present queries; a few of them at a time where a view is whole,
        and then made again in the backward pass: nothing of size P x M is kept."""

        def losses(queries: Tensor, touched: Tensor, features: Tensor) -> Tensor:
            projected = step.splat(torch.sigmoid(score(touched, queries)))  # [P, m]
            projected = projected if keep is None else projected[keep]
            return overlap_loss(projected, torch.sigmoid(score(features, queries)))

        shown, cells = prediction.features, max(len(step.labels), len(touched))
        at_once = max(1, CELLS_AT_ONCE // max(cells, 1))
        if len(present) <= at_once:
            return losses(present, touched, shown).mean()
        parts = [
            checkpoint(losses, some, touched, shown, use_reentrant=False, preserve_rng_state=False)
            for some in present.split(at_once)
        ]
        return torch.cat(parts).mean()

    def _smoothness(self, paired: Tensor, present: Tensor) -> Tensor:
        """Eq. 13 on sigma(S_3D), mean over present queries; or literally, on the features."""
        if self.params.reg_target == "feature":
            return neighbor_loss(*paired.chunk(2))
        first, second = torch.sigmoid(score(paired, present)).chunk(2)
        return neighbor_loss(first, second) / present.shape[0]
