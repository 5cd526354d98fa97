# SPDX-License-Identifier: Apache-2.0
"""OmniSeg3D as one method: its loss on the rendered features, and clusters as its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gaussian_renderer import Lens
from iqgs.methods.clustering import ClusterAnswer, require_clustering
from iqgs.methods.omniseg3d.hierarchy import Hierarchy, hierarchy_of, levels_of
from iqgs.methods.omniseg3d.losses import hierarchical_loss, length_loss, unit_by_norm
from iqgs.methods.omniseg3d.params import OmniSegParams
from iqgs.methods.protocol import (
    Batch,
    FitView,
    IdKind,
    SceneFacts,
    Segmentation,
    SplatLabels,
    StepTerms,
)
from iqgs.methods.winners import SOLID_ALPHA
from scene.gaussian_model import GaussianModel
from scene.masks import MaskPatches

RELEASED_PIXELS = 32768  # of a step in the released code, whose contrast is a sum over pixels


def build(params: OmniSegParams, facts: SceneFacts, generator: torch.Generator) -> OmniSeg3D:
    """Nothing is learned beside the splats' attribute."""
    return OmniSeg3D(params, facts)


class OmniSeg3D:
    """Contrastive features of splats; an answer is clusters of them.

    Pixels without a mask are a mask of their own where id 0 is the background, and are left out
    where it is not; pixels that show hardly any splat are left out too.
    """

    ids: IdKind = "clusters"
    neighbors = (0, 0, 1)

    def __init__(self, params: OmniSegParams, facts: SceneFacts) -> None:
        self.params = params
        self.background = facts.zero_is_background
        self.answer = ClusterAnswer(params, facts.zero_is_background, facts.seed)
        self._hierarchies: dict[int, Hierarchy] = {}  # by view; made again where they are missing

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of every term."""
        return {"hierarchy": self.params.lambda_hierarchy, "norm": self.params.lambda_norm}

    def fit(self, views: Iterable[FitView]) -> None:
        """See which splats show no instance."""
        require_clustering("omniseg3d")
        self.answer.look_at(views)

    def terms(self, batch: Batch) -> StepTerms:
        """Contrast of sampled pixels, and the length of the splats' features."""
        if batch.layers is None:
            raise ValueError("OmniSeg3D needs the masks of its views")
        masks = batch.layers()
        masks = masks.with_rest() if self.background else masks
        tree = self._hierarchy(batch.view, masks)
        inside = (masks.patch >= 0) & (batch.alpha >= SOLID_ALPHA)
        patch = torch.where(inside, tree.patch[masks.patch.clamp_min(0)], -1)
        patch, kept = with_enough_pixels(patch, len(tree.shared), self.params.patch_pixels)
        terms = {"norm": length_loss(batch.instance)}
        used = patch >= 0
        if len(kept) < 2:  # one patch alone is like nothing and unlike nothing
            return StepTerms({"hierarchy": 0.0 * batch.features.sum(), **terms})
        level = levels_of(tree.shared[kept][:, kept])
        unit = unit_by_norm(batch.features[used])
        decay, bounds = self.params.level_decay, self.params.temperatures
        contrast = hierarchical_loss(unit, patch[used], level, decay, bounds)
        share = float(used.sum()) / len(used)
        return StepTerms({"hierarchy": RELEASED_PIXELS * share * contrast, **terms})

    def _hierarchy(self, view: int, masks: MaskPatches) -> Hierarchy:
        if view not in self._hierarchies:
            self._hierarchies[view] = hierarchy_of(masks, self.params.containment)
        return self._hierarchies[view]

    def observe(self, seen: Any) -> None:
        """Nothing to remember."""

    @torch.no_grad()
    def finish(self, lenses: Iterable[Lens]) -> None:
        """Cluster the features."""
        lens = next(iter(lenses), None)
        if lens is None:
            raise ValueError("expected at least one view")
        self.answer.decide(normalize(lens.gaussians.instance.detach(), dim=1))

    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """The cluster with the largest share of each pixel."""
        return self.answer.segment(lens, panoptic)

    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """The cluster of every splat."""
        return self.answer.label_splats(gaussians)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """No parameters."""
        return []

    def to(self, device: str | torch.device) -> OmniSeg3D:
        """Move to the splats' device; returns self."""
        self.answer.to(device)
        return self

    def train(self, mode: bool = True) -> OmniSeg3D:
        """The same either way."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """The answer."""
        return {"answer": self.answer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.answer.load_state_dict(state["answer"])


def with_enough_pixels(patch: Tensor, count: int, few: int) -> tuple[Tensor, Tensor]:
    """Patches [P] (-1: none) renumbered 0..K-1 without those of no more than `few` pixels, and the
    old numbers [K] of those that are left."""
    number = torch.bincount(patch[patch >= 0], minlength=count)
    enough = number > few
    renumbered = torch.where(enough, enough.cumsum(0) - 1, -1)
    found = renumbered[patch.clamp_min(0)] if count else torch.full_like(patch, -1)
    return torch.where(patch >= 0, found, -1), enough.nonzero().flatten()
