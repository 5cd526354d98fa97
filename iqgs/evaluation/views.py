# SPDX-License-Identifier: Apache-2.0
"""One view's instances paired with their partners, and the tables read off these pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iqgs.evaluation.overlap import Overlap, best_assignment, partner_positions, scene_overlap
from iqgs.evaluation.scores import identity_switches, mean, panoptic_quality
from utils.errors import DataError


@dataclass(frozen=True)
class ScoredView:
    """A view's counts; strict is the unfiltered prediction's; ranking [P] is what AP sorts by."""

    name: str
    missing: bool
    regions: Overlap
    boundaries: Overlap
    strict: Overlap
    ranking: np.ndarray


@dataclass(frozen=True)
class Pairing:
    """IoU of every instance of a view with its partner: predicted [P]; true, true_boundary [G]."""

    predicted: np.ndarray
    true: np.ndarray
    true_boundary: np.ndarray


@dataclass(frozen=True)
class ObjectScore:
    """One true object: means over its `views` with missed = 0, area in pixels over all of them."""

    id: int
    name: str
    iou: float
    boundary_iou: float
    views: int
    found_views: int
    area: int
    switches: int


def pair_views(
    regions: Sequence[Overlap], boundaries: Sequence[Overlap], matching: str
) -> tuple[list[Pairing], dict[int, int]]:
    """Pair every view under `matching`; also the scene's assignment (empty unless "scene")."""
    scene = best_assignment(scene_overlap(regions)) if matching == "scene" else {}
    pairings = []
    for region, boundary in zip(regions, boundaries, strict=True):
        assignment = {"id": None, "view": None, "scene": scene}[matching]
        if matching == "view":
            assignment = best_assignment(region)
        pairings.append(_pair(region, boundary, assignment))
    return pairings, scene


def _pair(regions: Overlap, boundaries: Overlap, assignment: dict[int, int] | None) -> Pairing:
    """A partner that this view lacks is worth 0."""
    partner = partner_positions(regions, assignment)
    rows = np.flatnonzero(partner >= 0)
    columns = partner[rows]
    predicted = np.zeros(len(regions.predicted))
    true, true_boundary = np.zeros(len(regions.true)), np.zeros(len(regions.true))
    predicted[rows] = true[columns] = regions.iou[rows, columns]
    true_boundary[columns] = boundaries.iou[rows, columns]
    return Pairing(predicted, true, true_boundary)


def predicted_side(view: ScoredView, pairing: Pairing) -> np.ndarray:
    """The terms of mIoU_pred; a missing prediction stands for one miss per object of its view."""
    return pairing.true if view.missing else pairing.predicted


def view_scores(view: ScoredView, pairing: Pairing) -> dict[str, float | int]:
    """The scores that one view has by itself."""
    quality = panoptic_quality(view.regions)
    return {
        "mIoU_pred": mean(predicted_side(view, pairing)),
        "mIoU_gt": mean(pairing.true),
        "mBIoU": mean(pairing.true_boundary),
        "PQ": quality.pq,
        "SQ": quality.sq,
        "RQ": quality.rq,
        "gt_instances": len(view.regions.true),
        "pred_instances": len(view.regions.predicted),
        "missing": int(view.missing),
    }


def object_table(
    views: Sequence[ScoredView], pairings: Sequence[Pairing], names: Mapping[int, str]
) -> tuple[ObjectScore, ...]:
    """A row per true object of the scene, by id."""
    switches = identity_switches([view.regions for view in views])
    ids = np.concatenate([view.regions.true for view in views])
    area = np.concatenate([view.regions.true_area for view in views])
    iou = np.concatenate([pairing.true for pairing in pairings])
    boundary = np.concatenate([pairing.true_boundary for pairing in pairings])
    rows = []
    for object_id in sorted(switches):
        mine = ids == object_id
        rows.append(
            ObjectScore(
                id=object_id,
                name=names.get(object_id, str(object_id)),
                iou=float(iou[mine].mean()),
                boundary_iou=float(boundary[mine].mean()),
                views=int(mine.sum()),
                found_views=int((iou[mine] > 0).sum()),
                area=int(area[mine].sum()),
                switches=switches[object_id],
            )
        )
    return tuple(rows)


def check_held_out(scored: Iterable[str], trained: Iterable[str]) -> None:
    """DataError if a view to be scored as held out was trained on; both by image name."""
    seen = sorted(set(scored) & set(trained))
    if seen:
        raise DataError(
            f"{len(seen)} of the views to score were trained on, such as {seen[0]}: "
            "score them as the train split, or train with --eval"
        )
