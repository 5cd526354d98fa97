# SPDX-License-Identifier: Apache-2.0
"""Scores of a run, from memory: every view is rendered, segmented and compared with its truth.

No score is ever read back from a picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arguments.evaluation import EvaluationParams
from gaussian_renderer import render
from iqgs.engine.checkpoint import Run
from iqgs.engine.evaluation_3d import extracted_iou, surface_scores
from iqgs.engine.evaluation_vote import vote_segmenter
from iqgs.engine.run_folder import trained_names
from iqgs.evaluation.scorer import PROTOCOLS, SceneScorer, SceneScores, check_held_out
from iqgs.types import Segmentation
from scene.masks import (
    MaskRequest,
    collect_masks,
    numbering_problem,
    read_label_names,
    refuse_errors,
)
from scene.view import View
from utils.errors import UserError
from utils.image_quality import affine_corrected, only_valid, psnr, ssim
from utils.json_files import read_json

logger = logging.getLogger(__name__)

FILTER = "panoptic 0.6, 4 px"  # iqgs.winners' constants, printed beside every score

Ids = NDArray[np.int32]
Segmenter = Callable[[View, Tensor], tuple[Segmentation, Segmentation]]


@dataclass(frozen=True)
class Evaluated:
    """What one row of the table is made of."""

    key: str  # ours_2000, vote_2000
    split: str
    values: dict[str, Any]  # as in results.json
    scores: SceneScores | None  # None: the run has no instances
    per_view: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Truth:
    """The true masks of the views, by view name, in the ids of the files."""

    label_maps: dict[str, Ids]
    kind: str  # human | synthetic | pseudo:<folder>
    names: dict[int, str]


def load_truth(run: Run, views: Sequence[View], params: EvaluationParams) -> Truth:
    """True masks of these views; those without one are left out of the instance scores."""
    model, colors = run.config.model, {} if run.id_table is None else run.id_table.colors
    source = Path(model.source_path)
    wanted = params.gt_path or "object_mask"
    folder = source / wanted  # an absolute --gt_path wins over the scene's folder
    if not folder.is_dir():
        if params.gt_path:
            raise UserError(f"--gt_path {wanted}: no such folder in {source}")
        return Truth({}, "none", {})
    labels = source / "labels.json"
    request = MaskRequest(folder, labels, "background", model.ignore_label, True, colors)
    pictures = {view.name: view.picture for view in views}
    found = collect_masks(request, [view.camera for view in views], None, pictures)
    # Without --gt_path a scene without true masks is scored by its images.
    refuse_errors([f for f in found.findings if params.gt_path or f.kind != "none"])
    if scoring_rules(run, params)[0] == "id" and run.id_table is not None:
        problem = numbering_problem(run.id_table, found)
        if problem:
            raise UserError(f"{folder}: {problem}; score with --matching scene")
    maps = {
        view.name: found.label_map(view.camera, view.picture)
        for view in views
        if view.name in found.masks
    }
    names = read_label_names(labels, found.table.colors)
    return Truth(maps, _truth_kind(source, wanted, params), names)


def _truth_kind(source: Path, folder: str, params: EvaluationParams) -> str:
    if params.ground_truth in ("human", "synthetic"):
        return params.ground_truth
    about = source / "scene.json"
    if not params.ground_truth and about.is_file():
        return str(read_json(about).get("ground_truth", f"pseudo:{folder}"))
    return f"pseudo:{folder}"


def views_of(run: Run, split: str) -> Sequence[View]:
    """The views of a split; UserError where the run held none out."""
    views = run.scene.test if split == "test" else run.scene.train
    if not views:
        raise UserError(
            f"{run.model_path} holds no {split} views out; train it with --eval, or "
            "score its training views with --split train"
        )
    if split == "test":  # the scene's split may have changed since the run was trained
        check_held_out([view.name for view in views], trained_names(run.model_path))
    return views


def scoring_rules(run: Run, params: EvaluationParams) -> tuple[str, str]:
    """(matching, zero_label) of the scorer: the command line, the protocol, then the run."""
    protocol = PROTOCOLS[params.protocol]
    by_run = "id" if run.config.segmentation.matching == "id" else "scene"
    matching = params.matching or protocol.matching or by_run
    return matching, protocol.zero_label or run.config.model.zero_label


def to_files_ids(run: Run, found: Segmentation, by_id: bool) -> tuple[Ids, dict[int, float]]:
    """A segmentation in the ids of the mask files; query numbers stay under Hungarian matching."""
    labels = found.label_map.cpu().numpy().astype(np.int32)
    if not by_id or run.id_table is None:
        return labels, dict(found.scores)
    originals = (0, *run.id_table.originals)
    return run.id_table.to_original(labels), {originals[i]: s for i, s in found.scores.items()}


@torch.no_grad()
def score_images(
    run: Run, views: Sequence[View]
) -> tuple[dict[str, dict[str, float]], dict[str, Tensor]]:
    """PSNR, exposure-corrected PSNR and SSIM of each view; its instance map with alpha behind."""
    rows, maps = {}, {}
    for view in views:
        rendered = render(
            view.camera,
            run.gaussians,
            run.background,
            with_surface=False,
            with_instance=run.method is not None,
            backend=run.config.pipeline.backend,
        )
        color, image = rendered.color.clamp(0, 1), view.image_on(run.gaussians.device)
        valid = view.valid_on(run.gaussians.device)
        shown, truth = only_valid(color, valid), only_valid(image, valid)
        rows[view.name] = {
            "PSNR": float(psnr(shown, truth)),
            "SSIM": float(ssim(color, image, valid)),
            "PSNR_affine": float(psnr(affine_corrected(shown, truth).clamp(0, 1), truth)),
        }
        maps[view.name] = torch.cat([rendered.instance, rendered.alpha])
    return rows, maps


def iqgs_segmenter(run: Run) -> Segmenter:
    """The run's own method, with and without the panoptic filter."""
    method = run.method
    assert method is not None
    return lambda view, maps: (
        method.segment(maps[:-1], panoptic=True, alpha=maps[-1:]),
        method.segment(maps[:-1], panoptic=False, alpha=maps[-1:]),
    )


def score_instances(
    run: Run,
    scorer: SceneScorer,
    segmenter: Segmenter,
    by_id: bool,
    maps: dict[str, Tensor],
    truth: Truth,
) -> SceneScores:
    """All scores of one way to segment the views that have true masks."""
    for view in (*run.scene.test, *run.scene.train):
        if view.name not in truth.label_maps:
            continue
        kept, strict = segmenter(view, maps[view.name])
        labels, scores = to_files_ids(run, kept, by_id)
        scorer.add_view(
            view.name,
            labels,
            truth.label_maps[view.name],
            scores,
            prediction_strict=to_files_ids(run, strict, by_id)[0],
        )
    return scorer.result()


def evaluate_run(run: Run, params: EvaluationParams) -> list[Evaluated]:
    """One row for the run's method, one for the vote on the same splats (`--no-vote` leaves it)."""
    views = views_of(run, params.split)
    rows, maps = score_images(run, views)
    images = {
        key: float(np.mean([row[key] for row in rows.values()]))
        for key in ("PSNR", "PSNR_affine", "SSIM")
    }
    truth = load_truth(run, views, params)
    header = {"ground_truth": truth.kind, "filter": FILTER, "splats": len(run.gaussians)}
    key = f"ours_{run.iteration}"
    if run.method is None or not truth.label_maps:
        if run.method is not None:
            logger.info("%s: these views have no true masks: images only", run.model_path)
        values = {**images, "views": len(views), **header}
        return [Evaluated(key, params.split, values, None, rows)]
    matching, zero_label = scoring_rules(run, params)
    by_id = run.config.segmentation.matching == "id"
    scorer = SceneScorer(matching, zero_label, min_area=params.min_area, names=truth.names)
    scores = score_instances(run, scorer, iqgs_segmenter(run), by_id, maps, truth)
    extra = {
        **surface_scores(run, matching, zero_label),
        **extracted_iou(run, views, truth.label_maps, scores),
    }
    values = {**scores.values, **extra, **images, **header, "intervals": _intervals(scores)}
    per_view = {name: {**row, **scores.per_view.get(name, {})} for name, row in rows.items()}
    found = [Evaluated(key, params.split, values, scores, per_view)]
    if params.vote and by_id:  # the vote needs ids that mean the same in every view
        found.append(_evaluate_vote(run, params, truth, header, zero_label))
    return found


def _evaluate_vote(
    run: Run, params: EvaluationParams, truth: Truth, header: dict[str, Any], zero_label: str
) -> Evaluated:
    """The vote from the masks that the run was trained on; its ids are those of the files."""
    matching = params.matching or PROTOCOLS[params.protocol].matching or "id"
    scorer = SceneScorer(matching, zero_label, min_area=params.min_area, names=truth.names)
    nothing = {name: torch.empty(0) for name in truth.label_maps}
    scores = score_instances(run, scorer, vote_segmenter(run), True, nothing, truth)
    values = {**scores.values, **header, "intervals": _intervals(scores)}
    return Evaluated(f"vote_{run.iteration}", params.split, values, scores, scores.per_view)


def _intervals(scores: SceneScores) -> dict[str, list[float]]:
    return {key: [float(low), float(high)] for key, (low, high) in scores.intervals.items()}
