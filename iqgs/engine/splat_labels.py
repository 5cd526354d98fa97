# SPDX-License-Identifier: Apache-2.0
"""The instance of every splat, in the ids of the mask files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gaussian_renderer import splat
from iqgs.engine.setup import Training
from scene.view import View

MOST_VIEWS = 32  # the enriched queries differ little between views: this many give their mean


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
def original_splat_labels(training: Training) -> Tensor:
    """Instance id of every splat [N]: of the mask files under ID matching, query numbers else."""
    assert training.method is not None
    labels = training.method.segment_points(training.gaussians.instance).labels.cpu()
    table = training.scene.id_table
    if table is None or training.config.segmentation.matching != "id":
        return labels
    return torch.from_numpy(table.to_original(labels.numpy()))
