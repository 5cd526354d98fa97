# SPDX-License-Identifier: Apache-2.0
"""Scores below the pixels: splat labels against labelled surfaces, and objects rendered alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from gaussian_renderer import primitive_of
from iqgs.engine.run import Run, splat_labels
from iqgs.engine.scoring.truth import Truth
from iqgs.evaluation.scorer import SceneScores, mask_iou, point_scores
from scene.cameras import scene_extent
from scene.view import View
from utils.errors import FormatError

LABELLED_POINTS = "points3d_labels.npz"  # the synthetic scenes have it: positions, labels
NEAR_SURFACE = 0.01  # splats farther than this share of the scene's extent belong to no surface
EXTRACTED_VIEWS = 4  # views in which every object is rendered alone


def surface_scores(run: Run, matching: str, zero_label: str) -> dict[str, float]:
    """3D mIoU of the splats near labelled surfaces; empty where the scene has no 3D labels."""
    path = Path(run.config.model.source_path) / LABELLED_POINTS
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as data:
            positions, labels = data["positions"] - run.frame.origin, data["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not labelled points ({error})") from error
    gaussians = run.gaussians
    distance, nearest = cKDTree(positions).query(gaussians.means.detach().cpu().numpy(), workers=-1)
    near = distance <= NEAR_SURFACE * scene_extent(list(run.cameras.train))
    area = primitive_of(gaussians).area(gaussians.scales) * gaussians.opacities[:, 0]
    return point_scores(
        splat_labels(run).labels.numpy()[near],
        labels[nearest][near],
        area.detach().cpu().numpy()[near],
        matching="view" if matching == "scene" else matching,
        zero_label=zero_label,
    )


@torch.no_grad()
def extracted_iou(
    run: Run, views: Sequence[View], truth: Truth, scores: SceneScores
) -> dict[str, float]:
    """Mean IoU of objects rendered alone with their masks: the score that sees hidden junk.

    An object is the splats of its label. What other objects hide counts against it in a view, so
    the figure is a lower bound, comparable between runs on the same views only.
    """
    labels = splat_labels(run).labels.numpy()
    partner = {true: predicted for predicted, true in scores.assignment.items()}
    shown = [view for view in views if view.name in truth]
    shown = shown[:: max(1, -(-len(shown) // EXTRACTED_VIEWS))]
    masks = {view.name: mask for view in shown if (mask := truth.of(view)) is not None}
    found = []
    present = {int(i) for mask in masks.values() for i in np.unique(mask) if i > 0}
    for true_id in sorted(present):
        wanted = partner.get(true_id, 0 if scores.assignment else true_id)
        mine = torch.from_numpy((labels == wanted) & (wanted != 0)).to(run.gaussians.device)
        alone = run.gaussians.subset(mine) if bool(mine.any()) else None
        for view in shown:
            mask = masks[view.name] == true_id
            if not mask.any():
                continue
            if alone is None:
                found.append(0.0)
                continue
            alpha = run.renderer.lens(view.camera, alone).alpha
            seen = alpha[0].cpu().numpy() * (masks[view.name] >= 0)
            found.append(mask_iou(seen, mask))
    return {"IoU_extracted": float(np.mean(found))} if found else {}
