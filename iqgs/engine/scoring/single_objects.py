# SPDX-License-Identifier: Apache-2.0
"""A run scored on one object: the protocols of NVOS and SPIn-NeRF."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arguments.evaluation import EvaluationParams
from iqgs.engine.objects.choosing import object_number
from iqgs.engine.objects.opened import trained_objects
from iqgs.engine.opening import open_for
from iqgs.engine.run import Run
from iqgs.engine.run_folder import trained_names
from iqgs.engine.scoring.run_scores import FILTER, Evaluated, Segmenter, segmenters, vote_of
from iqgs.evaluation.lerf_mask import read_binary_mask, resize_nearest
from iqgs.evaluation.report import write_per_view, write_results
from iqgs.evaluation.single_object import (
    Chosen,
    ObjectView,
    covering_instance,
    object_values,
    object_view,
)
from scene.benchmarks.single_object import ObjectTruth, nvos_objects, spin_nerf_objects
from scene.masks.reading import checked_turns
from scene.view import View
from utils.errors import UserError
from utils.orientation import turned

logger = logging.getLogger(__name__)

INSIDE = 128 / 255  # of full scale: a mask's inside
ANY_MARK = 0.0  # a scribble is whatever is not black


def single_object_rows(
    path: Path, params: EvaluationParams, overrides: Mapping[str, Any]
) -> list[tuple[dict[str, Any], Evaluated | None]]:
    """One row of the table for each labelled object and each way to segment. UserError."""
    run = open_for(path, params, overrides)
    if run.method is None:
        raise UserError(f"{run.folder} was trained without masks: it has no objects to score")
    views = {view.name: view for view in run.views()}
    objects = find_objects(run, params, sorted(views))
    known = trained_objects(run)
    given = [object_number(known, wanted) for wanted in params.id]
    rows: list[tuple[dict[str, Any], Evaluated | None]] = []
    for segmenter in segmenters(run, params):
        for truth in objects:
            values, per_view = _score(run, segmenter, truth, views, given)
            split = seen_in_training(truth.targets, trained_names(run.folder))
            key = f"{params.protocol}:{segmenter.key}:{truth.name}"
            write_results(path / "results.json", key, split, values)
            write_per_view(path / "per_view.json", key, split, per_view)
            name = f"{path} [{truth.name}]{vote_of(segmenter.key)}"
            about = {"scene": scene_name(run), "method": segmenter.key, "split": split}
            rows.append(({"run": name, **about, **values}, None))
    return rows


def scene_name(run: Run) -> str:
    """The name of the scene's folder."""
    return Path(run.config.model.source_path).resolve().name


def find_objects(run: Run, params: EvaluationParams, views: Sequence[str]) -> list[ObjectTruth]:
    """The labelled objects of the run's scene. DataError where there are none."""
    root = Path(run.config.model.source_path) / params.gt_path
    if not root.is_dir():
        raise UserError(f"--gt_path {params.gt_path}: no such folder in {root.parent}")
    if params.protocol == "nvos":
        return nvos_objects(root, scene_name(run), params.object, views)
    notices: list[str] = []
    found = spin_nerf_objects(root, scene_name(run), views, notices)
    for notice in notices:
        logger.info("%s", notice)
    return found


def seen_in_training(targets: Sequence[str] | Mapping[str, Path], trained: Sequence[str]) -> str:
    """What to call the split: test or train, or both where some views were trained on."""
    seen = set(targets) & set(trained)
    if not seen:
        return "test"
    return "train" if seen == set(targets) else "train+test"


def _score(
    run: Run,
    segmenter: Segmenter,
    truth: ObjectTruth,
    views: Mapping[str, View],
    given: Sequence[int],
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Scores of one object, and of each view."""
    labels = {
        name: segmenter.label_map(run.lens(views[name].camera))
        for name in {truth.reference, *truth.targets}
    }
    chosen = point_at(truth, views[truth.reference], labels[truth.reference])
    ids = list(given) or [chosen.id]
    scored: list[ObjectView] = []
    for name, path in truth.targets.items():
        true = seen_mask(path, views[name], INSIDE)
        ours = np.isin(labels[name], [i for i in ids if i])
        scored.append(object_view(name, resize_nearest(ours, true.shape), true))
    values: dict[str, Any] = {
        **object_values(scored, truth.reference),
        "ground_truth": "human",
        "filter": FILTER,
        "matching": "--id" if given else "scribbles" if truth.is_scribbled else "mask",
        "object": truth.name,
        "reference": truth.reference,
        "instance": "+".join(str(i) for i in ids) if any(ids) else "none",
    }
    if not given:
        values |= {"reference_covered": chosen.covered, "reference_wrong": chosen.wrong}
    return values, {v.view: {"IoU": v.iou, "accuracy": v.accuracy} for v in scored}


def point_at(truth: ObjectTruth, view: View, labels: NDArray[np.int32]) -> Chosen:
    """The instance of the reference view's label map that its mask or scribbles point at."""
    threshold = ANY_MARK if truth.is_scribbled else INSIDE
    positive = seen_mask(truth.positive, view, threshold) == 1
    if not positive.any():
        raise UserError(f"{truth.positive} is empty: it points at no object; pass --id")
    negative = None
    if truth.negative is not None:
        negative = resize_nearest(seen_mask(truth.negative, view, threshold) == 1, positive.shape)
    return covering_instance(resize_nearest(labels, positive.shape), positive, negative)


def seen_mask(path: Path, view: View, threshold: float) -> NDArray[np.int32]:
    """A binary mask as the view sees it: 1 inside, 0 outside, -1 where the view sees none.

    In the file's own size, as the benchmarks score; in the camera's where a lens is straightened.
    Raises DataError for a damaged file or one of another shape than the photograph.
    """
    mask = read_binary_mask(path, threshold).astype(np.int32)
    picture = view.picture
    turns = checked_turns(path, (mask.shape[1], mask.shape[0]), view.camera, picture)
    if picture is not None and picture.lens is not None:
        return picture.label_map(mask, view.camera, turns)
    for code in turns:
        mask = turned(mask, code)
    return mask
