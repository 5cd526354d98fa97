# SPDX-License-Identifier: Apache-2.0
"""The closed-form vote on a run's splats, as one more way to segment its views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gaussian_renderer import splat, view_weights
from iqgs.baselines.vote import VoteAccumulator, VoteMethod
from iqgs.engine.checkpoint import Run
from iqgs.engine.weight_cache import MIN_WEIGHT
from iqgs.model import SOLID_ALPHA
from iqgs.types import Segmentation
from scene.view import View


@torch.no_grad()
def vote_of(run: Run) -> VoteMethod:
    """Every splat takes the id to which it gives most blending weight in the training masks."""
    table = run.id_table
    assert table is not None
    backend = run.config.pipeline.backend
    votes = VoteAccumulator(
        len(run.gaussians), len(table), run.config.model.zero_label == "background"
    )
    for view in run.scene.train:
        if view.masks is None:
            continue
        weights = view_weights(view.camera, run.gaussians, MIN_WEIGHT, backend=backend)
        votes.add(weights, torch.from_numpy(view.masks.label_map))
    return VoteMethod.from_votes(votes).to(run.gaussians.device)


def vote_segmenter(run: Run) -> Callable[[View, Tensor], tuple[Segmentation, Segmentation]]:
    """Segment a view by the vote, with and without the panoptic filter."""
    method = vote_of(run)

    def segment(view: View, instance: Tensor) -> tuple[Segmentation, Segmentation]:
        ones = torch.ones(len(run.gaussians), 1, device=run.gaussians.device)
        backend = run.config.pipeline.backend

        def splat_values(values: Tensor) -> Tensor:
            return splat(view.camera, run.gaussians, values, backend=backend) * solid

        with torch.no_grad():
            alpha = splat(view.camera, run.gaussians, ones, backend=backend)
            solid = alpha >= SOLID_ALPHA
            height = view.camera.height
            return (
                method.segment_view(splat_values, height, panoptic=True),
                method.segment_view(splat_values, height, panoptic=False),
            )

    return segment
