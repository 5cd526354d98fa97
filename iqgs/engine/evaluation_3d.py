# SPDX-License-Identifier: Apache-2.0
"""Scores below the pixels: splat labels against labelled surfaces, and objects rendered alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gaussian_renderer import render
from iqgs.engine.checkpoint import Run
from iqgs.engine.splat_labels import original_splat_labels
from iqgs.evaluation.scorer import SceneScores, mask_iou, point_scores
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
            positions, labels = data["positions"], data["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not labelled points ({error})") from error
    gaussians = run.gaussians
    distance, nearest = cKDTree(positions).query(gaussians.means.detach().cpu().numpy(), workers=-1)
    near = distance <= NEAR_SURFACE * run.scene.extent
    area = (gaussians.scales.prod(dim=1) * gaussians.opacities[:, 0]).detach().cpu().numpy()
    return point_scores(
        original_splat_labels(run).numpy()[near],
        labels[nearest][near],
        area[near],
        matching="view" if matching == "scene" else matching,
        zero_label=zero_label,
    )


@torch.no_grad()
def extracted_iou(
    run: Run, views: Sequence[View], truth: Mapping[str, NDArray[np.int32]], scores: SceneScores
) -> dict[str, float]:
    """Mean IoU of objects rendered alone with their masks: the score that sees hidden junk.

    An object is the splats of its label. What other objects hide counts against it in a view, so
    the figure is a lower bound, comparable between runs on the same views only.
    """
    labels = original_splat_labels(run).numpy()
    partner = {true: predicted for predicted, true in scores.assignment.items()}
    shown = [view for view in views if view.name in truth]
    shown = shown[:: max(1, -(-len(shown) // EXTRACTED_VIEWS))]
    found = []
    for true_id in sorted({int(i) for view in shown for i in np.unique(truth[view.name]) if i > 0}):
        wanted = partner.get(true_id, 0 if scores.assignment else true_id)
        mine = torch.from_numpy((labels == wanted) & (wanted != 0)).to(run.gaussians.device)
        alone = run.gaussians.subset(mine) if bool(mine.any()) else None
        for view in shown:
            mask = truth[view.name] == true_id
            if not mask.any():
                continue
            if alone is None:
                found.append(0.0)
                continue
            alpha = render(
                view.camera,
                alone,
                run.background,
                with_instance=False,
                with_surface=False,
                backend=run.config.pipeline.backend,
            ).alpha
            seen = alpha[0].cpu().numpy() * (truth[view.name] >= 0)
            found.append(mask_iou(seen, mask))
    return {"IoU_extracted": float(np.mean(found))} if found else {}
