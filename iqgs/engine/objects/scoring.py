# SPDX-License-Identifier: Apache-2.0
"""How good extracted objects are, where the scene has true masks: each rendered alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from arguments.evaluation import EvaluationParams
from iqgs.engine.run import Run, spread
from iqgs.engine.scoring.surfaces import LABELLED_POINTS
from iqgs.engine.scoring.truth import find_truth
from iqgs.evaluation.overlap import (
    best_assignment,
    boundary_width,
    count_overlap,
    outline_pixels,
    scene_overlap,
)
from iqgs.evaluation.points import mask_iou
from iqgs.methods.hard_labels import segment_by_labels
from iqgs.methods.protocol import SplatLabels
from iqgs.objects.catalog import by_object
from iqgs.objects.cleaning import with_instance_opacity
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import scene_extent
from scene.synthetic.alone import masks_alone, room_of, viewpoint_of
from scene.view import View
from utils.image_quality import psnr

CEILING_DISTANCES = (0.01, 0.02, 0.03, 0.05, np.inf)  # to a true surface, over the scene's extent
LEAST_PIXELS = 30  # of a mask: in smaller ones a pixel is worth too much

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ObjectTruth:
    """True masks of objects in some views, by the objects' own numbers."""

    views: Sequence[View]
    masks: Sequence[dict[int, Mask]]  # of each view, by true number
    partner: dict[int, int]  # true number -> the run's
    alone: bool  # as if nothing were in front of them

    @property
    def words(self) -> str:
        """What the masks are."""
        if self.alone:
            return "their own unoccluded masks"
        return "masks of the scene (what others hide counts against an object)"


@dataclass(frozen=True)
class ExtractedScores:
    """Means over (object, view), and the image of the whole scene."""

    iou: float
    boundary_iou: float
    psnr: float | None  # None: nothing of the whole changes

    def words(self) -> str:
        """In percent and dB."""
        words = f"IoU {100 * self.iou:.1f}, boundary IoU {100 * self.boundary_iou:.1f}"
        return words if self.psnr is None else f"{words}, PSNR of the scene {self.psnr:.2f}"


@torch.no_grad()
def true_masks(run: Run, objects: LabelledSplats, most: int) -> ObjectTruth | None:
    """The truth in at most `most` held-out views (training views where none are held out); None
    where the scene's folder or its masks are not there.
    """
    if not run.has_scene:
        return None
    views = spread(run.scene.test or run.scene.train, most)
    truth = find_truth(run, views, EvaluationParams(model_paths=(str(run.folder),)))
    views = [view for view in views if view.name in truth]
    if not views:
        return None
    maps = [np.maximum(ids, 0) for view in views if (ids := truth.of(view)) is not None]
    overlaps = [
        count_overlap(_label_map(run, objects, view), ids)
        for view, ids in zip(views, maps, strict=True)
    ]
    partner = {true: mine for mine, true in best_assignment(scene_overlap(overlaps)).items()}
    alone = _unoccluded(run, views)
    masks = alone or [{int(n): ids == n for n in np.unique(ids) if n} for ids in maps]
    return ObjectTruth(views, masks, partner, alone is not None)


@torch.no_grad()
def extracted_scores(run: Run, objects: LabelledSplats, truth: ObjectTruth) -> ExtractedScores:
    """Each object rendered alone against its masks; one that was not found has an IoU of 0."""
    parts = {number: part.splats for number, part in by_object(objects)}
    found, edges, images = [], [], []
    for view, masks in zip(truth.views, truth.masks, strict=True):
        for true, mask in masks.items():
            if true not in truth.partner or mask.sum() < LEAST_PIXELS:
                continue  # what no photograph shows is nobody's fault
            part = parts.get(truth.partner[true])
            alpha = np.zeros(mask.shape)
            if part is not None:
                alpha = run.renderer.lens(view.camera, part.for_colors()).alpha[0].cpu().numpy()
            found.append(mask_iou(alpha, mask))
            edges.append(mask_iou(_inner_edge(alpha > 0.5), _inner_edge(mask)))
        color = run.renderer.lens(view.camera, objects.splats).render(with_surface=False).color
        images.append(float(psnr(color.clamp(0, 1), view.image_on(color.device))))
        view.forget()
    return ExtractedScores(*(float(np.mean(row)) if row else 0.0 for row in (found, edges, images)))


def compared(
    run: Run, before: LabelledSplats, after: LabelledSplats, truth: ObjectTruth
) -> list[str]:
    """The scores before and after a change in words, after what labels could reach at best."""
    best = ceiling(run, before, truth) if truth.alone else None
    rows = [] if best is None else [("at best, with the true label for every splat", best)]
    rows += [
        ("before", extracted_scores(run, before, truth)),
        ("after", extracted_scores(run, after, truth)),
        ("after, extracted with --instance_opacity", _faded_scores(run, after, truth)),
    ]
    head = f"objects rendered alone in {len(truth.views)} views, against {truth.words}:"
    return [head, *(f"  {name}: {scores.words()}" for name, scores in rows)]


def _faded_scores(run: Run, after: LabelledSplats, truth: ObjectTruth) -> ExtractedScores:
    """With opacities of their own for objects alone; the image of the whole has none of it."""
    alone = extracted_scores(run, with_instance_opacity(after), truth)
    return dataclasses.replace(alone, psnr=None)


def ceiling(run: Run, objects: LabelledSplats, truth: ObjectTruth) -> ExtractedScores | None:
    """What labels can reach with these splats: each has that of the nearest true surface, or none
    where that is too far; the best of several such distances. None where the scene has no labelled
    surfaces. Not a bound for splats that are cut: a whole splat across a boundary harms one side.
    """
    path = Path(run.config.model.source_path) / LABELLED_POINTS
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as data:
        positions, labels = data["positions"] - run.frame.origin, data["labels"].astype(np.int64)
    distance, nearest = cKDTree(positions).query(objects.splats.means.detach().cpu().numpy())
    size = scene_extent(list(run.cameras.train))
    found = []
    for share in CEILING_DISTANCES:
        best = torch.from_numpy(np.where(distance <= share * size, labels[nearest], 0))
        partner = {number: number for number in truth.partner}
        known = dataclasses.replace(truth, partner=partner)
        found.append(extracted_scores(run, dataclasses.replace(objects, labels=best), known))
    return max(found, key=lambda scores: scores.iou)


def _label_map(run: Run, objects: LabelledSplats, view: View) -> NDArray[np.int64]:
    device = objects.splats.device
    labels = SplatLabels(
        objects.labels.to(device), torch.ones(len(objects), device=device), "global"
    )
    lens = run.renderer.lens(view.camera, objects.splats)
    found: NDArray[np.int64] = (
        segment_by_labels(lens, labels, panoptic=False).label_map.cpu().numpy()
    )
    return found


def _unoccluded(run: Run, views: Sequence[View]) -> list[dict[int, Mask]] | None:
    """Masks of a synthetic room's objects, each alone in the room; None for other scenes."""
    room = room_of(Path(run.config.model.source_path))
    points = [viewpoint_of(view.camera) for view in views]
    if room is None or any(run.frame.origin) or None in points:
        return None
    return [masks_alone(room, point) for point in points if point is not None]


def _inner_edge(mask: Mask) -> Mask:
    inside: Mask = outline_pixels(mask.astype(np.int32), boundary_width(*mask.shape)) & mask
    return inside
