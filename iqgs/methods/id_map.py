# SPDX-License-Identifier: Apache-2.0
"""The id map in place of masks: the paper's ablation of its supervision (Table 5).

The query branch of IQGS says for every pixel which one query it belongs to, by a softmax over the
queries, and learns from the map of ids by cross-entropy, instead of a binary mask for each query by
itself. The two terms in 3D (Eq. 13-14) speak of the same probabilities. The paper gives no weights
for this; those of IQGS are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arguments import option, require_at_least
from gaussian_renderer import Lens
from iqgs.methods.classes import decide, identity_loss, segment_by_softmax, taught
from iqgs.methods.iqgs.branch import QueryBranch
from iqgs.methods.iqgs.decoder import score
from iqgs.methods.iqgs.losses import neighbor_loss, overlap_loss
from iqgs.methods.iqgs.params import BranchParams
from iqgs.methods.protocol import Batch, IdKind, SceneFacts, Segmentation, SplatLabels, StepTerms
from scene.gaussian_model import GaussianModel
from utils.errors import UserError
from utils.tensors import select_rows


@dataclass(frozen=True)
class IdMapParams(BranchParams):
    """The id map: queries compete for every pixel, and ids are their classes."""

    lambda_identity: float = option(1.0, "weight of the cross-entropy over ids")
    lambda_reg: float = option(1.0, "weight of the 3D smoothness (Eq. 13)")
    lambda_geom: float = option(1.0, "weight of the 2D-3D consistency (Eq. 14)")
    reg3d_k: int = option(5, "neighbours of a splat in Eq. 13")
    reg3d_sample_size: int = option(1000, "splats whose neighbours a step compares")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "reg3d_k", "reg3d_sample_size")
        require_at_least(self, 0, "lambda_identity", "lambda_reg", "lambda_geom")


@dataclass(frozen=True)
class SeenIds:
    """What a step leaves for the running statistics."""

    queries: Tensor  # [Q, D] enriched, detached
    present: Tensor  # [M] int64


def build(params: IdMapParams, facts: SceneFacts, generator: torch.Generator) -> IdMap:
    """A fresh query branch with a query for each id. UserError."""
    least = facts.num_ids + 1
    if 0 < params.num_queries < least:
        raise UserError(
            f"--num_queries {params.num_queries} is too small: the masks have {facts.num_ids} ids "
            f"after remapping, so pass --num_queries {least} or more, or 0."
        )
    return IdMap(params, params.num_queries or least, facts, generator)


class IdMap(QueryBranch):
    """Query i is class i, the compact id i, in one softmax over all queries."""

    def __init__(
        self, params: IdMapParams, queries: int, facts: SceneFacts, generator: torch.Generator
    ) -> None:
        super().__init__(params, queries, facts.instance_dim, generator)
        self.params = params
        self.zero_is_background = facts.zero_is_background
        self.ids: IdKind = "clusters" if facts.tracks else "global"

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term."""
        return {
            "identity": self.params.lambda_identity,
            "reg3d": self.params.lambda_reg,
            "consistency": self.params.lambda_geom,
        }

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """The neighbour pairs of Eq. 13."""
        wanted = self.params.reg3d_sample_size if self.params.lambda_reg else 0
        return self.params.reg3d_k, wanted, 1

    def terms(self, batch: Batch) -> StepTerms:
        """Unweighted terms of one step; those of weight 0 are not formed."""
        features = self.projection(batch.features)
        queries = self.enriched_by(features)
        keep = taught(batch.labels, self.zero_is_background)
        logits, labels = score(queries, features[keep]).T, batch.labels[keep]
        terms = {"identity": identity_loss(logits, labels)}
        present = torch.unique(labels)
        if len(present):
            terms.update(self._scene_terms(batch, queries, logits, keep, present))
        return StepTerms(terms, SeenIds(queries.detach(), present))

    def _scene_terms(
        self, batch: Batch, queries: Tensor, logits: Tensor, keep: Tensor, present: Tensor
    ) -> dict[str, Tensor]:
        """Smoothness over neighbour pairs, and agreement of splats with pixels."""
        wanted = self.params.lambda_geom != 0
        touched = batch.touched if wanted else batch.touched[:0]
        index = torch.cat([touched, batch.pairs.T.reshape(-1)])
        features = self.projection(select_rows(batch.instance, index))
        decided = torch.softmax(score(queries, features).T, dim=1)[:, present]
        shown, paired = decided.split([len(touched), 2 * len(batch.pairs)])
        terms = {}
        if len(batch.pairs):
            terms["reg3d"] = neighbor_loss(*paired.chunk(2)) / len(present)
        if wanted:
            rendered = torch.softmax(logits, dim=1)[:, present]
            terms["consistency"] = overlap_loss(batch.splat(shown)[keep], rendered).mean()
        return terms

    def observe(self, seen: SeenIds) -> None:
        """Note the ids that were taught, and the mean queries."""
        self.note(seen.queries, seen.present)

    @torch.no_grad()
    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """Instances of a view: the most probable query of each pixel."""
        numbers = self.matched.nonzero().flatten()
        logits = self.scores(self.enrich(lens.features)[numbers], lens.features.flatten(1))
        return segment_by_softmax(lens, numbers, logits, panoptic, self.ids)

    @torch.no_grad()
    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """Instances of splats from their attributes, by the mean enriched queries."""
        numbers, columns = self.matched.nonzero().flatten(), gaussians.instance.detach().T
        logits = self.scores(self.mean_queries[numbers], columns)
        all_of_them = torch.ones(len(gaussians), dtype=torch.bool, device=columns.device)
        labels, sure = decide(numbers, logits, all_of_them, panoptic=False)
        return SplatLabels(labels, sure, self.ids)
