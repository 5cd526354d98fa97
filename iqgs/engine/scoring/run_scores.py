# SPDX-License-Identifier: Apache-2.0
"""Scores of a run, from memory: a view is rendered, segmented, compared with its truth, forgotten.

No score is ever read back from a picture, and the memory does not grow with the number of views.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from arguments.evaluation import EvaluationParams
from arguments.levels import LevelParams
from gaussian_renderer import Lens
from iqgs.engine.objects.shown import has_edits, shown_run
from iqgs.engine.reporting.matched import KeptMaps
from iqgs.engine.run import Run, ids_of_files
from iqgs.engine.run_folder import trained_names
from iqgs.engine.scoring.shared import Shared
from iqgs.engine.scoring.surfaces import extracted_iou, surface_scores
from iqgs.engine.scoring.truth import (
    Ids,
    Truth,
    check_numbering,
    find_truth,
)
from iqgs.evaluation.scorer import PROTOCOLS, SceneScorer, SceneScores
from iqgs.evaluation.views import check_held_out
from iqgs.methods import METHODS, build_method
from iqgs.methods.protocol import FitView, Method, Segmentation
from scene.masks import IdTable
from scene.view import View
from utils.errors import UserError
from utils.image_quality import affine_corrected, only_valid, psnr, ssim
from utils.progress import tqdm
from utils.read_ahead import read_ahead

logger = logging.getLogger(__name__)

FILTER = "panoptic 0.6, 4 px"  # iqgs.methods.winners' constants, printed beside every score
SWAPPED = "decoder of "  # key of a run that is scored with another's
IMAGE_SCORES = ("PSNR", "PSNR_affine", "SSIM")


@dataclass(frozen=True)
class Evaluated:
    """What one row of the table is made of."""

    key: str  # ours_2000, vote_2000
    split: str
    values: dict[str, Any]  # as in results.json
    scores: SceneScores | None  # None: the run has no instances
    per_view: dict[str, dict[str, float]]
    maps: dict[str, KeptMaps] = field(default_factory=dict)  # by view, where a report needs them


@dataclass(frozen=True)
class Segmenter:
    """One way to segment the views of a run."""

    key: str
    method: Method
    table: IdTable | None  # what the method's ids are in the files

    def label_map(self, lens: Lens) -> Ids:
        """What is seen through a lens [H, W] after the panoptic filter, in the files' numbers."""
        return self._ids(self.method.segment(lens, panoptic=True))

    def _ids(self, found: Segmentation) -> Ids:
        labels = found.label_map.cpu().numpy().astype(np.int32)
        return ids_of_files(labels, found.ids, self.table)


@dataclass(frozen=True)
class Contestant(Segmenter):
    """A segmenter whose answers are counted."""

    scorer: SceneScorer
    maps: dict[str, KeptMaps] | None = None  # None: nobody needs them

    def segmented(self, lens: Lens) -> tuple[Segmentation, Segmentation]:
        """One view with the panoptic filter, and without."""
        return self.method.segment(lens, panoptic=True), self.method.segment(lens, panoptic=False)

    def add(self, name: str, found: tuple[Segmentation, Segmentation], truth: Ids) -> None:
        """Count what `segmented` gave of one view."""
        kept, strict = found
        prediction = self._ids(kept)
        if self.maps is not None:
            self.maps[name] = KeptMaps.of(prediction, truth)
        self.scorer.add_view(
            name,
            prediction,
            truth,
            self._scores(kept),
            prediction_strict=self._ids(strict),
        )

    def _scores(self, found: Segmentation) -> dict[int, float]:
        """Winning probabilities by the numbers of the files, where the ids have such numbers."""
        if found.ids != "global" or self.table is None:
            return dict(found.scores)
        originals = (0, *self.table.originals)
        return {originals[i]: score for i, score in found.scores.items()}


@dataclass(frozen=True)
class _Looked:
    """One view before it is counted."""

    name: str
    row: dict[str, float]  # scores of the image
    truth: Ids | None
    found: list[tuple[Segmentation, Segmentation]]  # of each contestant


def views_of(run: Run, split: str) -> Sequence[View]:
    """The views of a split; UserError where the run held none out."""
    views = run.scene.test if split == "test" else run.scene.train
    if not views:
        raise UserError(
            f"{run.folder} holds no {split} views out; train it with --eval, or "
            "score its training views with --split train"
        )
    if split == "test":  # the scene's split may have changed since the run was trained
        check_held_out([view.name for view in views], trained_names(run.folder))
    return views


def evaluate_run(
    run: Run, params: EvaluationParams, shared: Shared | None = None
) -> list[Evaluated]:
    """One row for the run's method, one for the vote on the same splats (`--no-vote` leaves it).

    `shared`: what runs on the same splats have in common, this one among them.
    """
    edits = has_edits(run)
    if params.state == "edited":
        if not edits:
            raise UserError(f"--state edited: {run.folder} has no edits; leave the flag out")
        return _evaluate_edited(run, params)
    if edits:
        logger.info(
            "%s has %d edits: scored as training left it; --state edited scores the rest",
            run.folder,
            edits,
        )
    return _evaluate(run, params, shared or Shared([run]))


def _evaluate_edited(run: Run, params: EvaluationParams) -> list[Evaluated]:
    """One row, of what edits left."""
    shown, _ = shown_run(run, True, LevelParams())
    found = _evaluate(shown, replace(params, vote=False), Shared([shown]))
    names = {f"ours_{run.iteration}": f"edited_{run.iteration}"}
    return [replace(row, key=names.get(row.key, row.key)) for row in found]


def _evaluate(run: Run, params: EvaluationParams, shared: Shared) -> list[Evaluated]:
    views = views_of(run, params.split)
    truth = find_truth(run, views, params)
    contestants = _contestants(run, params, truth, shared)
    if contestants and params.oracle:
        contestants.append(_oracle(run, params, truth, views))
    rows: dict[str, dict[str, float]] = {}

    @torch.no_grad()
    def looked_at(view: View) -> _Looked:
        lens = run.lens(view.camera)
        row = shared.once(view.name, partial(score_image, lens, view))
        mask = truth.of(view) if contestants else None
        found = [] if mask is None else [one.segmented(lens) for one in contestants]
        view.forget()
        return _Looked(view.name, row, mask, found)

    # A view is rendered while the one before is counted.
    looked = read_ahead(views, looked_at)
    about = f"Scoring {run.folder.name}"
    for one in tqdm(looked, desc=about, total=len(views), disable=params.quiet, leave=False):
        rows[one.name] = one.row
        if one.truth is not None:
            for contestant, found in zip(contestants, one.found, strict=True):
                contestant.add(one.name, found, one.truth)
    return _evaluated(run, params, truth, contestants, rows, shared)


def score_image(lens: Lens, view: View) -> dict[str, float]:
    """PSNR, exposure-corrected PSNR and SSIM of a view."""
    color = lens.render(with_surface=False).color.clamp(0, 1)
    image, valid = view.image_on(color.device), view.valid_on(color.device)
    shown, truth = only_valid(color, valid), only_valid(image, valid)
    return {
        "PSNR": float(psnr(shown, truth)),
        "SSIM": float(ssim(color, image, valid)),
        "PSNR_affine": float(psnr(affine_corrected(shown, truth).clamp(0, 1), truth)),
    }


def _contestants(
    run: Run, params: EvaluationParams, truth: Truth, shared: Shared
) -> list[Contestant]:
    """Who is scored against true masks; nobody where there are none, or no instances."""
    if run.method is None or run.facts is None:
        return []
    if truth.masks is None:
        logger.info("%s: these views have no true masks: images only", run.folder)
        return []
    protocol = PROTOCOLS[params.protocol]
    zero_label = protocol.zero_label or run.config.model.zero_label
    if truth.classes is not None:  # pixels that nobody labelled are -1, and 0 is stuff
        zero_label = "background"
    default = params.matching or protocol.matching
    if (default or _matching_of(run.method)) == "id":
        check_numbering(run, truth)
    maps: dict[str, KeptMaps] | None = {} if params.report else None

    def contestant(found: Segmenter) -> Contestant:
        matching = default or _matching_of(found.method)
        names = dict(truth.names)
        scorer = SceneScorer(matching, zero_label, min_area=params.min_area, names=names)
        kept = maps if found.key.startswith("ours_") else None
        return Contestant(found.key, found.method, found.table, scorer, kept)

    return [contestant(found) for found in segmenters(run, params, shared)]


def votes_wanted(run: Run) -> list[bool]:
    """Which votes stand beside a run's method: of the masks that it learned from where they were
    repaired (False), and of the scene's (True) where their ids mean the same in every view.
    """
    if run.facts is None or run.method is None or run.config.segmentation.method == "vote":
        return []
    known = not METHODS[run.config.segmentation.method].per_view_ids and not run.facts.tracks
    return [*([False] if run.repaired is not None else []), *([True] if known else [])]


def segmenters(run: Run, params: EvaluationParams, shared: Shared | None = None) -> list[Segmenter]:
    """The run's method and, where its ids mean the same in every view, the vote beside it."""
    if run.facts is None:
        return []
    found = [Segmenter(f"ours_{run.iteration}", run.learning_method, run.ids)]
    if not params.vote:
        return found
    votes = (shared or Shared([run])).votes(run, votes_wanted)
    for raw, vote in zip(votes_wanted(run), votes, strict=True):
        key = f"vote_{run.iteration}" if raw else f"vote_repaired_{run.iteration}"
        found.append(Segmenter(key, vote, run.scene.id_table if raw else run.ids))
    return found


def _oracle(run: Run, params: EvaluationParams, truth: Truth, views: Sequence[View]) -> Contestant:
    """What these splats can do at best with a label each: the vote of the true masks of the very
    views that are scored.
    """
    assert run.facts is not None and truth.masks is not None
    table = truth.masks.table
    facts = replace(run.facts, num_ids=max(len(table), 1), zero_is_background=True, tracks=False)
    vote = build_method("vote", METHODS["vote"].params(), facts).to(run.gaussians.device)
    for view in views:
        ids = truth.of(view)
        if ids is not None:
            labels = torch.from_numpy(table.to_compact(ids)).to(run.gaussians.device)
            vote.fit([FitView(run.lens(view.camera), labels)])
    vote.finish([])
    names = dict(truth.names)
    scorer = SceneScorer(
        params.matching or "id", "background", min_area=params.min_area, names=names
    )
    return Contestant(f"oracle_{run.iteration}", vote, table, scorer)


def vote_of(key: str) -> str:
    """Which vote a row is of; empty for the run's own method."""
    if key.startswith(SWAPPED):
        return f" ({key})"
    if key.startswith(("ours", "oracle", "edited")):
        word = key.split("_")[0]
        return "" if word == "ours" else f" ({word})"
    return " (vote, repaired)" if key.startswith("vote_repaired") else " (vote)"


def _matching_of(method: Method) -> str:
    return "id" if method.ids == "global" else "scene"


def _evaluated(
    run: Run,
    params: EvaluationParams,
    truth: Truth,
    contestants: list[Contestant],
    rows: dict[str, dict[str, float]],
    shared: Shared,
) -> list[Evaluated]:
    """The rows of the table."""
    images = {key: float(np.mean([row[key] for row in rows.values()])) for key in IMAGE_SCORES}
    header = {"ground_truth": truth.kind, "filter": FILTER, "splats": len(run.gaussians)}
    if not contestants:
        values = {**images, "views": len(rows), **header}
        return [Evaluated(f"ours_{run.iteration}", params.split, values, None, rows)]
    found = []
    for contestant in contestants:
        scores = contestant.scorer.result()
        values = {**scores.values, **header, "intervals": _intervals(scores)}
        per_view = scores.per_view
        if contestant is contestants[0]:
            scorer = contestant.scorer
            values.update(surface_scores(run, scorer.matching, scorer.zero_label, shared))
            values.update(extracted_iou(run, views_of(run, params.split), truth, scores))
            values.update(images)
            per_view = {name: {**row, **per_view.get(name, {})} for name, row in rows.items()}
        maps = contestant.maps or {}
        found.append(Evaluated(contestant.key, params.split, values, scores, per_view, maps))
    return found


def _intervals(scores: SceneScores) -> dict[str, list[float]]:
    return {key: [float(low), float(high)] for key, (low, high) in scores.intervals.items()}
