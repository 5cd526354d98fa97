# SPDX-License-Identifier: Apache-2.0
"""SAGA as one method: smoothed features, the scale gate, its loss, and clusters as its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gaussian_renderer import Lens
from iqgs.methods.clustering import ClusterAnswer, require_clustering
from iqgs.methods.protocol import (
    ALL_TOUCHED,
    Batch,
    FitView,
    IdKind,
    SceneFacts,
    Segmentation,
    SplatLabels,
    StepTerms,
)
from iqgs.methods.saga.losses import (
    choose_pairs,
    contrastive_loss,
    memberships,
    norm_loss,
    pair_weights,
    same_identity,
    sampled_scales,
)
from iqgs.methods.saga.params import SAGAParams
from iqgs.methods.saga.scales import mask_scales, quantile
from iqgs.methods.winners import SOLID_ALPHA
from scene.gaussian_model import GaussianModel
from scene.masks import MaskPatches
from utils.neighbors import nearest_neighbors
from utils.tensors import select_rows

UNMEASURED = -1.0


def build(params: SAGAParams, facts: SceneFacts, generator: torch.Generator) -> SAGA:
    """A fresh gate; nothing is known of the masks' scales yet."""
    return SAGA(params, facts, generator)


class ScaleGate(nn.Module):
    """sigmoid(W q + b) in (0, 1)^D: which channels speak at a scale's quantile q."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels, generator=generator) * 2 - 1)
        self.bias = nn.Parameter(torch.rand(channels, generator=generator) * 2 - 1)

    def forward(self, quantiles: Tensor) -> Tensor:
        """[G] -> [G, D]."""
        return torch.sigmoid(quantiles[:, None] * self.weight + self.bias)


class SAGA:
    """Contrastive features of splats; an answer is clusters of them at one scale.

    The scales of all training masks are measured before the first step, by the depth of splats that
    do not move any more. Pixels without a mask are a mask of their own where id 0 is the
    background, and are left out where it is not.
    """

    ids: IdKind = "clusters"

    def __init__(self, params: SAGAParams, facts: SceneFacts, generator: torch.Generator) -> None:
        self.params = params
        self.background = facts.zero_is_background
        self.gate = ScaleGate(facts.instance_dim, generator)
        self.answer = ClusterAnswer(params, facts.zero_is_background, facts.seed)
        # [M] of the masks of each training view, on the CPU; UNMEASURED where nothing is shown.
        self.scales: list[Tensor] = []
        self.ordered = torch.zeros(0)  # all of them, ascending

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of every term."""
        return {"contrast": 1.0, "norm": self.params.lambda_norm}

    @property
    def neighbors(self) -> tuple[int, int, int]:
        """Those that a feature is averaged over, beside itself."""
        return self.params.smooth_neighbors - 1, ALL_TOUCHED, 1

    @torch.no_grad()
    def fit(self, views: Iterable[FitView]) -> None:
        """Measure the masks of all training views."""
        require_clustering("saga")
        self.scales = []
        for view in views:
            self.answer.look_at([view])
            scales = mask_scales(view.lens, self._masks(view)).cpu()
            self.scales.append(torch.nan_to_num(scales, nan=UNMEASURED))
        found = torch.cat([*self.scales, torch.zeros(0)])
        self.ordered = found[found != UNMEASURED].sort().values

    def _masks(self, of: FitView | Batch) -> MaskPatches:
        if of.layers is None:
            raise ValueError("SAGA needs the masks of its views")
        return of.layers().with_rest() if self.background else of.layers()

    def terms(self, batch: Batch) -> StepTerms:
        """Contrast of sampled pixels at several scales, and the length of their features."""
        assert batch.generator is not None
        masks, scale = self._masks(batch), self.scales[batch.view]
        measured = scale != UNMEASURED
        members, scale = masks.members[:, measured.to(masks.members.device)], scale[measured]
        used = (masks.patch >= 0) & members.any(dim=1)[masks.patch.clamp_min(0)]
        used &= batch.alpha >= SOLID_ALPHA  # elsewhere the direction is that of stray splats
        features = batch.splat(self._smoothed_step(batch))
        nothing = 0.0 * features.sum()
        if int(used.sum()) < 2:
            return StepTerms({"contrast": nothing, "norm": norm_loss(features)})
        shown = features[used]
        scales = sampled_scales(scale, self.params.mask_scales, batch.generator)
        vectors = memberships(members, scale.to(shown.device), scales.to(shown.device))
        areas = masks.areas[measured.to(masks.areas.device)].float()
        mean_areas = (members * areas).sum(dim=1) / members.sum(dim=1).clamp_min(1)
        patch = masks.patch[used]
        gates = self.gate(quantile(scales, self.ordered).to(shown.device))
        gated = normalize(shown[None] * gates[:, None], dim=-1)
        cosine = gated @ gated.transpose(1, 2)
        same = same_identity(vectors)[:, patch[:, None], patch]
        chosen = choose_pairs(same, cosine.detach(), self.params.random_pairs, batch.generator)
        weight = pair_weights(mean_areas[patch])
        contrast = contrastive_loss(cosine, same, weight, chosen)
        return StepTerms({"contrast": contrast, "norm": norm_loss(features)})

    def _smoothed_step(self, batch: Batch) -> Tensor:
        """Unit features [U, D] of the touched splats, each averaged over a random half of its
        neighbours and itself, the same places of all."""
        unit = normalize(batch.instance, dim=1)
        touched = batch.touched
        others = batch.pairs[:, 1].view(len(touched), -1)
        group = torch.cat([touched[:, None], others], dim=1)
        places = torch.randperm(group.shape[1], generator=batch.generator)
        half = places[: max(1, group.shape[1] // 2)].tolist()
        total = select_rows(unit, group[:, half[0]])
        for place in half[1:]:
            total = total + select_rows(unit, group[:, place])
        return normalize(total, dim=1)

    def observe(self, seen: Any) -> None:
        """Nothing to remember."""

    @torch.no_grad()
    def finish(self, lenses: Iterable[Lens]) -> None:
        """Cluster the features at the scale of the answers."""
        lens = next(iter(lenses), None)
        if lens is None:
            raise ValueError("expected at least one view")
        self.answer.decide(self.gated(lens.gaussians))

    @torch.no_grad()
    def gated(self, gaussians: GaussianModel) -> Tensor:
        """Unit features [N, D] of all splats at the scale of the answers, smoothed over all
        neighbours."""
        unit = normalize(gaussians.instance.detach(), dim=1)
        near, _ = nearest_neighbors(gaussians.means.detach(), self.params.smooth_neighbors - 1)
        total = unit.clone()
        for place in range(near.shape[1]):
            total += unit[near[:, place]]
        wanted = torch.full((1,), self.params.answer_scale, device=unit.device)
        return normalize(normalize(total, dim=1) * self.gate(wanted), dim=1)

    def segment(self, lens: Lens, panoptic: bool = True) -> Segmentation:
        """The cluster with the largest share of each pixel."""
        return self.answer.segment(lens, panoptic)

    def label_splats(self, gaussians: GaussianModel) -> SplatLabels:
        """The cluster of every splat."""
        return self.answer.label_splats(gaussians)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The gate."""
        return [{"name": "gate", "params": list(self.gate.parameters())}]

    def to(self, device: str | torch.device) -> SAGA:
        """Move to the splats' device; returns self."""
        self.gate.to(device)
        self.answer.to(device)
        return self

    def train(self, mode: bool = True) -> SAGA:
        """The same either way."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Gate, answer, and the scales that training needs."""
        return {
            "gate": self.gate.state_dict(),
            "answer": self.answer.state_dict(),
            "scales": list(self.scales),
            "ordered": self.ordered,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.gate.load_state_dict(state["gate"])
        self.answer.load_state_dict(state["answer"])
        self.scales = [scale.cpu() for scale in state["scales"]]
        self.ordered = state["ordered"].cpu()
