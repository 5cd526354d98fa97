# SPDX-License-Identifier: Apache-2.0
"""Scores below the pixels: splat labels against labelled surfaces, and objects rendered alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gaussian_renderer import primitive_of
from iqgs.engine.run import Run, splat_labels
from iqgs.engine.scoring.shared import Shared
from iqgs.engine.scoring.truth import Truth
from iqgs.evaluation.scorer import SceneScores, mask_iou, point_scores
from scene.cameras import scene_extent
from scene.frozen_gaussians import FrozenGaussians
from scene.gaussian_model import GaussianModel
from scene.view import View
from utils.errors import FormatError

LABELLED_POINTS = "points3d_labels.npz"  # the synthetic scenes have it: positions, labels
NEAR_SURFACE = 0.01  # splats farther than this share of the scene's extent belong to no surface
EXTRACTED_VIEWS = 4  # views in which every object is rendered alone


@dataclass(frozen=True)
class Surface:
    """The splats that lie on labelled surfaces."""

    near: NDArray[np.bool_]  # [N]
    labels: NDArray[np.int64]  # [n] of the nearest labelled points of those
    area: NDArray[np.float32]  # [n] up to a factor, times opacity


def surface_scores(
    run: Run, matching: str, zero_label: str, shared: Shared | None = None
) -> dict[str, float]:
    """3D mIoU of the splats near labelled surfaces; empty where the scene has no 3D labels."""
    path = Path(run.config.model.source_path) / LABELLED_POINTS
    if not path.is_file():
        return {}
    surface = (shared or Shared()).once("surface", lambda: _surface(run, path))
    return point_scores(
        splat_labels(run).labels.numpy()[surface.near],
        surface.labels,
        surface.area,
        matching="view" if matching == "scene" else matching,
        zero_label=zero_label,
    )


def _surface(run: Run, path: Path) -> Surface:
    from scipy.spatial import cKDTree  # slow to import, and few scenes have labelled surfaces

    try:
        with np.load(path, allow_pickle=False) as data:
            positions, labels = data["positions"] - run.frame.origin, data["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not labelled points ({error})") from error
    gaussians = run.gaussians
    distance, nearest = cKDTree(positions).query(gaussians.means.detach().cpu().numpy(), workers=-1)
    near = distance <= NEAR_SURFACE * scene_extent(list(run.cameras.train))
    area = primitive_of(gaussians).area(gaussians.scales) * gaussians.opacities[:, 0]
    return Surface(near, labels[nearest][near], area.detach().cpu().numpy()[near])


@torch.no_grad()
def extracted_iou(
    run: Run, views: Sequence[View], truth: Truth, scores: SceneScores
) -> dict[str, float]:
    """Mean IoU of objects rendered alone with their masks: the score that sees hidden junk.

    An object is the splats of its label. What other objects hide counts against it in a view, so
    the figure is a lower bound, comparable between runs on the same views only.
    """
    labels = splat_labels(run).labels.to(run.gaussians.device)
    partner = {true: predicted for predicted, true in scores.assignment.items()}
    shown = [view for view in views if view.name in truth]
    shown = shown[:: max(1, -(-len(shown) // EXTRACTED_VIEWS))]
    masks = {view.name: mask for view in shown if (mask := truth.of(view)) is not None}
    ids = {name: set(np.unique(mask).tolist()) for name, mask in masks.items()}
    bare = without_appearance(run.gaussians)
    found = []
    for true_id in sorted(i for i in set().union(*ids.values()) if i > 0):
        wanted = partner.get(true_id, 0 if scores.assignment else true_id)
        mine = ((labels == wanted) & (wanted != 0)).nonzero().flatten()
        alone = FrozenGaussians(bare.subset(mine)) if len(mine) else None
        for view in shown:
            if true_id not in ids[view.name]:
                continue
            if alone is None:
                found.append(0.0)
                continue
            alpha = run.renderer.lens(view.camera, alone).alpha
            mask = masks[view.name]
            found.append(mask_iou(alpha[0].cpu().numpy() * (mask >= 0), mask == true_id))
    return {"IoU_extracted": float(np.mean(found))} if found else {}


def without_appearance(gaussians: GaussianModel) -> GaussianModel:
    """The same shapes with the least of colour and no attribute: what their alpha depends on."""
    values = {name: p.detach() for name, p in gaussians.for_colors().params.items()}
    values["sh_rest"] = values["sh_rest"][:, :0]
    values["instance"] = values["instance"][:, :0]
    return GaussianModel(values)
