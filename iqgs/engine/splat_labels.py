# SPDX-License-Identifier: Apache-2.0
"""The instance of every splat, in the ids of the mask files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from arguments import RunConfig
from gaussian_renderer import splat, view_weights
from iqgs.engine.setup import Training
from iqgs.engine.weight_cache import MIN_WEIGHT
from iqgs.model import IQGS
from scene.dataset import Scene
from scene.gaussian_model import GaussianModel
from scene.view import View

SEEN_WEIGHT = 0.01  # pixels: summed blending weight over views, far below one visible pixel
SURE_CONFIDENCE = 0.5  # probability above which a query claims a splat rather than leaves it
MOST_VIEWS = 32  # the enriched queries differ little between views: this many give their mean


class Learned(Protocol):
    """A run in training or opened again."""

    config: RunConfig
    scene: Scene
    gaussians: GaussianModel
    method: IQGS | None


def spread(views: Sequence[View], most: int) -> Sequence[View]:
    """At most `most` views, evenly spread."""
    step = max(1, -(-len(views) // most))
    return views[::step]


@torch.no_grad()
def instance_maps(training: Training, views: Sequence[View]) -> Iterator[Tensor]:
    """Rendered instance attribute [D_obj, H, W] of each view (Eq. 3 before P)."""
    for view in views:
        yield splat(
            view.camera,
            training.gaussians,
            training.gaussians.instance,
            backend=training.config.pipeline.backend,
        )


def refresh_mean_queries(training: Training) -> None:
    """Set the method's mean queries exactly, over training views with masks."""
    assert training.method is not None
    views = [view for view in training.scene.train if view.mask_path is not None]
    training.method.average_queries(instance_maps(training, spread(views, MOST_VIEWS)))


@torch.no_grad()
def seen_splats(learned: Learned) -> Tensor:
    """Which splats [N] bool show in the training views at all; of the others nothing is known."""
    total = torch.zeros(len(learned.gaussians), device=learned.gaussians.device)
    for view in spread(learned.scene.train, MOST_VIEWS):
        weights = view_weights(
            view.camera, learned.gaussians, MIN_WEIGHT, backend=learned.config.pipeline.backend
        )
        total.index_add_(0, weights.splat.long(), weights.weight)
    return total > SEEN_WEIGHT


@torch.no_grad()
def original_splat_labels(learned: Learned) -> Tensor:
    """Instance id of every splat [N]: of the mask files under ID matching, query numbers else.

    0 where no training view shows the splat, or where its best query does not claim it: an
    attribute that no pixel ever taught is noise, and such splats would litter extracted objects.
    """
    assert learned.method is not None
    found = learned.method.segment_points(learned.gaussians.instance.detach())
    sure = seen_splats(learned) & (found.confidence > SURE_CONFIDENCE)
    labels = torch.where(sure, found.labels, torch.zeros_like(found.labels)).cpu()
    table = learned.scene.id_table
    if table is None or learned.config.segmentation.matching != "id":
        return labels
    return torch.from_numpy(table.to_original(labels.numpy()))
