# SPDX-License-Identifier: Apache-2.0
"""A run scored on labelled points: class-agnostic AP of ScanNet and ScanNet++."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from arguments.evaluation import EvaluationParams
from iqgs.engine.opening import open_for
from iqgs.engine.run import Run, splat_labels
from iqgs.engine.scoring.run_scores import Evaluated
from iqgs.evaluation.instance_ap import instance_ap, scan_overlap
from iqgs.evaluation.report import write_results
from scene.benchmarks.labelled_points import find_labelled_points
from scene.cameras import scene_extent
from utils.errors import UserError

logger = logging.getLogger(__name__)

FAR = 0.1  # share of the scene's extent; where most points are farther from all splats, beware


def point_rows(
    path: Path, params: EvaluationParams, overrides: Mapping[str, Any]
) -> list[tuple[dict[str, Any], Evaluated | None]]:
    """The row of the table of one run. UserError."""
    run = open_for(path, params, overrides)
    if run.method is None:
        raise UserError(f"{run.folder} was trained without masks: it has no objects to score")
    source = Path(run.config.model.source_path).resolve()
    truth = find_labelled_points(source, params.gt_path)
    predicted, confidence = carried_labels(run, truth.positions)
    overlap = scan_overlap(predicted, truth.instances, confidence)
    asked = int(np.count_nonzero(overlap.true_size >= params.min_points))
    if not asked:
        raise UserError(
            f"{truth.files}: no instance of at least {params.min_points} points to score; "
            "--min_points asks for smaller ones"
        )
    values: dict[str, Any] = {
        **instance_ap([overlap], params.min_points),
        "points": len(truth.positions),
        "gt_instances": asked,
        "pred_instances": int(np.count_nonzero(overlap.predicted_size >= params.min_points)),
        "labelled": float(np.mean(predicted[truth.instances > 0] > 0)),
        "min_points": params.min_points,
        "classes": truth.classes,
        "ground_truth": params.ground_truth or truth.kind,
        "matching": "IoU",
        "zero_label": "ignore",
    }
    method = f"ours_{run.iteration}"
    write_results(path / "results.json", f"scannetpp:{method}:points", "points", values)
    about = {"run": str(path), "scene": source.name, "method": method, "split": "points"}
    return [({**about, **values}, None)]


def carried_labels(
    run: Run, positions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], dict[int, float]]:
    """Ids of points [V, 3] (coordinates of the scene's files), 0 = none, and each id's confidence.

    A point takes the label of the splat whose centre is nearest; an instance's confidence is the
    mean of those of its points.
    """
    found = splat_labels(run)
    centers = run.gaussians.means.detach().cpu().numpy()
    distance, nearest = cKDTree(centers).query(positions - np.array(run.frame.origin))
    if np.median(distance) > FAR * scene_extent(list(run.cameras.train)):
        logger.warning(
            "most of the labelled points are %.3g and more from every splat of %s: are they in the "
            "coordinates of the scene's poses?",
            float(np.median(distance)),
            run.folder,
        )
    labels = found.labels.numpy().astype(np.int64)[nearest]
    sure = found.confidence.numpy().astype(np.float64)[nearest]
    ids, place = np.unique(labels, return_inverse=True)
    means = np.bincount(place, sure) / np.bincount(place)
    return labels, {int(i): float(mean) for i, mean in zip(ids, means, strict=True) if i > 0}
