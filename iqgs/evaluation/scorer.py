# SPDX-License-Identifier: Apache-2.0
"""What a segmentation of a scene is worth: label maps in, one table of scores out.

mIoU_pred is the paper's score: the mean IoU over *predicted* instances of all views. It is a
precision and never sees a missed object, so mIoU_gt, PQ and the rest always stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from iqgs.evaluation.lerf_mask import LerfMaskScores, lerf_mask_scores
from iqgs.evaluation.overlap import (
    Overlap,
    comparable_pair,
    count_overlap,
    count_with_boundaries,
    scene_overlap,
)
from iqgs.evaluation.points import mask_iou, point_scores
from iqgs.evaluation.scores import (
    average_precision,
    bootstrap_interval,
    mean,
    panoptic_quality,
    ratio,
)
from iqgs.evaluation.views import (
    ObjectScore,
    Pairing,
    ScoredView,
    check_held_out,
    object_table,
    pair_views,
    predicted_side,
    view_scores,
)

MATCHINGS = ("id", "view", "scene")
ZERO_LABELS = ("background", "ignore")
# Enough for a percentile interval whose ends move by a few percent of its width between seeds.
_BOOTSTRAP_SAMPLES = 1000

__all__ = [
    "MATCHINGS",
    "PROTOCOLS",
    "ZERO_LABELS",
    "LerfMaskScores",
    "ObjectScore",
    "Protocol",
    "SceneScorer",
    "SceneScores",
    "check_held_out",
    "lerf_mask_scores",
    "mask_iou",
    "point_scores",
]


@dataclass(frozen=True)
class Protocol:
    """A published way of scoring.

    kind: "label_maps" for SceneScorer, "binary_masks" for lerf_mask_scores, "single_object" and
    "points" for the modules single_object and instance_ap; matching and zero_label: None leaves
    them to the run; primary: the scores its tables lead with, in order.
    """

    name: str
    kind: str
    matching: str | None
    zero_label: str | None
    primary: tuple[str, ...]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "iqgs",
            "label_maps",
            None,
            None,
            ("mIoU_pred", "mIoU_pred_strict", "mIoU_gt", "mBIoU", "PQ", "PQ_scene", "AP", "F1"),
        ),
        Protocol("lerf-mask", "binary_masks", None, None, ("mIoU", "mBIoU")),
        # Panoptic Lifting (arXiv 2212.09802): tubes through the scene, unlabelled pixels are void.
        Protocol(
            "panoptic-lifting",
            "label_maps",
            "scene",
            "ignore",
            ("PQ_scene", "SQ_scene", "RQ_scene", "mIoU_gt"),
        ),
        Protocol("nvos", "single_object", None, None, ("IoU", "accuracy")),
        Protocol("spin-nerf", "single_object", None, None, ("IoU", "accuracy", "IoU_others")),
        Protocol("scannetpp", "points", None, "ignore", ("AP", "AP50", "AP25")),
    )
}


@dataclass(frozen=True)
class SceneScores:
    """The scores of a scene.

    values: score name -> fraction, count or setting (nan where undefined); intervals: 95 % bounds
    by score name; objects: the per-object table; per_view: view name -> its own scores;
    assignment: predicted id -> true id of the whole scene (empty unless matching is "scene").
    """

    values: dict[str, float | int | str]
    intervals: dict[str, tuple[float, float]]
    objects: tuple[ObjectScore, ...]
    per_view: dict[str, dict[str, float | int]]
    assignment: dict[int, int]


class SceneScorer:
    """Collects the views of one scene and scores them together.

    matching: which true instance a predicted one is compared with in mIoU_pred, mIoU_gt, mBIoU and
        the per-object table: "id" the one of equal id, "view" an optimal assignment in every view,
        "scene" one optimal assignment for the whole scene. PQ, AP, F1 and switches match by IoU.
    zero_label: "background" counts predictions on pixels of true id 0 against the predictor,
        "ignore" leaves these pixels out on both sides.
    min_area: predicted instances of a view with fewer scored pixels are dropped; true ones are
        neither asked for nor held against a prediction. mIoU_pred_strict keeps small predictions.
    names: object names for the per-object table; seed: of the bootstrap.
    """

    def __init__(
        self,
        matching: str,
        zero_label: str,
        *,
        min_area: int = 1,
        names: Mapping[int, str] | None = None,
        seed: int = 0,
    ) -> None:
        if matching not in MATCHINGS:
            raise ValueError(f"matching must be one of {MATCHINGS}, got {matching!r}")
        if zero_label not in ZERO_LABELS:
            raise ValueError(f"zero_label must be one of {ZERO_LABELS}, got {zero_label!r}")
        self.matching = matching
        self.zero_label = zero_label
        self.min_area = min_area
        self.names = dict(names or {})
        self.seed = seed
        self._views: dict[str, ScoredView] = {}

    def add_view(
        self,
        name: str,
        prediction: np.ndarray,
        truth: np.ndarray,
        scores: Mapping[int, float] | None = None,
        prediction_strict: np.ndarray | None = None,
    ) -> None:
        """Add a view: integer label maps [H, W], 0 = no instance; -1 in the truth = not scored.

        scores: predicted id -> mean winning probability, for AP; an id without one ranks by its
        share of the image. prediction_strict: the prediction before any filter, for
        mIoU_pred_strict; without it `prediction` counts as unfiltered.
        ValueError on maps that differ in size or hold no ids, and on a name given twice.
        """
        if name in self._views:
            raise ValueError(f"view {name!r} was added twice")
        regions, boundaries = count_with_boundaries(*self._pair(prediction, truth, self.min_area))
        unfiltered = prediction if prediction_strict is None else prediction_strict
        strict = regions
        if prediction_strict is not None or self.min_area > 1:
            strict = count_overlap(*self._pair(unfiltered, truth, 1))
        share = regions.predicted_area / max(np.size(truth), 1)
        ranking = [
            (scores or {}).get(int(i), float(s))
            for i, s in zip(regions.predicted, share, strict=True)
        ]
        self._views[name] = ScoredView(
            name, False, regions, boundaries, strict, np.array(ranking, np.float64)
        )

    def add_missing(self, name: str, truth: np.ndarray) -> None:
        """Add a view that has no prediction: each of its objects scores 0, on both sides."""
        if name in self._views:
            raise ValueError(f"view {name!r} was added twice")
        nothing = np.zeros(np.shape(truth), np.int64)
        regions, boundaries = count_with_boundaries(*self._pair(nothing, truth, self.min_area))
        self._views[name] = ScoredView(name, True, regions, boundaries, regions, np.zeros(0))

    def _pair(
        self, prediction: np.ndarray, truth: np.ndarray, min_predicted: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return comparable_pair(
            prediction,
            truth,
            self.zero_label,
            min_true=self.min_area,
            min_predicted=min_predicted,
        )

    def result(self) -> SceneScores:
        """All scores of the views added so far; ValueError if there are none."""
        if not self._views:
            raise ValueError("no view was added to the scorer")
        views = list(self._views.values())
        regions = [view.regions for view in views]
        pairings, assignment = pair_views(regions, [v.boundaries for v in views], self.matching)
        strict = [view.strict for view in views]
        strict_pairings, _ = pair_views(strict, strict, self.matching)
        sides = {
            "mIoU_pred": _all_predicted(views, pairings),
            "mIoU_pred_strict": _all_predicted(views, strict_pairings),
            "mIoU_gt": np.concatenate([pairing.true for pairing in pairings]),
            "mBIoU": np.concatenate([pairing.true_boundary for pairing in pairings]),
        }
        objects = object_table(views, pairings, self.names)
        per_view = {
            view.name: view_scores(view, pairing)
            for view, pairing in zip(views, pairings, strict=True)
        }

        values: dict[str, float | int | str] = {key: mean(side) for key, side in sides.items()}
        values["mIoU_objects"] = mean(np.array([row.iou for row in objects]))
        for key in ("PQ", "SQ", "RQ"):
            values[key] = mean(np.array([scores[key] for scores in per_view.values()], float))
        tubes = scene_overlap(regions)
        values |= _scene_values(tubes)
        values |= average_precision([(view.regions, view.ranking) for view in views])
        switches = sum(row.switches for row in objects)
        values["id_switches"] = ratio(switches, len(objects))
        values["coverage"] = ratio(tubes.intersection.sum(), tubes.true_area.sum())
        values |= self._settings_and_counts(len(objects))
        generator = np.random.default_rng(self.seed)
        intervals = {
            key: bootstrap_interval(side, _BOOTSTRAP_SAMPLES, generator)
            for key, side in sides.items()
        }
        return SceneScores(values, intervals, objects, per_view, assignment)

    def _settings_and_counts(self, objects: int) -> dict[str, float | int | str]:
        views = self._views.values()
        return {
            "views": len(views),
            "missing": sum(view.missing for view in views),
            "gt_instances": sum(len(view.regions.true) for view in views),
            "pred_instances": sum(len(view.regions.predicted) for view in views),
            "objects": objects,
            "matching": self.matching,
            "zero_label": self.zero_label,
            "min_area": self.min_area,
        }


def _all_predicted(views: list[ScoredView], pairings: list[Pairing]) -> np.ndarray:
    """The terms of mIoU_pred; one 0 stands for a scene with objects and no prediction at all."""
    terms = [predicted_side(v, p) for v, p in zip(views, pairings, strict=True)]
    side = np.concatenate(terms)
    return side if len(side) or not any(len(p.true) for p in pairings) else np.zeros(1)


def _scene_values(tubes: Overlap) -> dict[str, float | int | str]:
    quality = panoptic_quality(tubes)
    return {
        "PQ_scene": quality.pq,
        "SQ_scene": quality.sq,
        "RQ_scene": quality.rq,
        "precision": quality.precision,
        "recall": quality.recall,
        "F1": quality.rq,
    }
