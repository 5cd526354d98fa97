# SPDX-License-Identifier: Apache-2.0
"""What the views of a run are scored against."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arguments.evaluation import EvaluationParams
from iqgs.engine.run import Run
from scene.masks import (
    MaskCollection,
    MaskRequest,
    collect_masks,
    labels_file,
    numbering_problem,
    read_label_names,
    refuse_errors,
)
from scene.view import View
from utils.errors import DataError, UserError
from utils.json_files import read_json

Ids = NDArray[np.int32]
DEFAULT_FOLDER = "object_mask"
SCAN_TRUTH, SCAN_CLASSES = "rs_instance", "rs_semantics"  # of Panoptic Lifting's data
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truth:
    """The true masks of some views; each is read when it is needed."""

    masks: MaskCollection | None  # None: the scene has none
    kind: str  # human | synthetic | pseudo:<folder> | none
    names: Mapping[int, str]  # of objects, by the numbers of the files
    folder: str = DEFAULT_FOLDER  # where they are, in the scene or absolute
    classes: MaskCollection | None = None  # semantic classes, where pixels of none are not scored

    def __contains__(self, view: str) -> bool:
        """Whether a view of this name has true masks."""
        return self.masks is not None and view in self.masks.masks

    def of(self, view: View) -> Ids | None:
        """True ids [H, W] of a view, in the numbers of the files; None where it has none.

        0: no instance, -1: nobody said, so nothing is scored there.
        """
        if self.masks is None or view.name not in self:
            return None
        ids = self.masks.label_map(view.camera, view.picture)
        if self.classes is None:
            return ids
        return np.where(self.classes.label_map(view.camera, view.picture) == 0, -1, ids)


def find_truth(run: Run, views: Sequence[View], params: EvaluationParams) -> Truth:
    """True masks of these views; those without one are left out of the instance scores."""
    model = run.config.model
    source = Path(model.source_path)
    wanted = params.gt_path or _default_folder(run, source, params)
    folder = source / wanted  # an absolute --gt_path wins over the scene's folder
    if not folder.is_dir():
        if params.gt_path:
            raise UserError(f"--gt_path {wanted}: no such folder in {source}")
        return Truth(None, "none", {})
    colors = {} if run.ids is None else run.ids.colors
    labels = labels_file(source, folder)
    # Pixels are read again view by view: kept, they would grow with the number of views.
    request = MaskRequest(folder, labels, "background", model.ignore_label, False, colors)
    pictures = {view.name: view.picture for view in views}
    found = collect_masks(request, [view.camera for view in views], None, pictures)
    # Without --gt_path a scene without true masks is scored by its images.
    refuse_errors([f for f in found.findings if params.gt_path or f.kind != "none"])
    names = read_label_names(labels, found.table.colors)
    classes = None
    if folder.name == SCAN_TRUTH and params.protocol == "panoptic-lifting":
        classes = _classes_of_scan(request, views)
    kind = _kind(source, wanted, params)
    return Truth(found if found.masks else None, kind, names, wanted, classes)


def _classes_of_scan(request: MaskRequest, views: Sequence[View]) -> MaskCollection | None:
    """Semantic classes beside the instances of Panoptic Lifting's data: 0 is what nobody labelled.

    Without them stuff and what nobody labelled cannot be told apart.
    """
    folder = request.folder.with_name(SCAN_CLASSES)
    if not folder.is_dir():
        logger.info("%s: no such folder, so no pixel of id 0 is scored", folder)
        return None
    request = replace(request, folder=folder, labels=folder / "none", colors={})
    pictures = {view.name: view.picture for view in views}
    found = collect_masks(request, [view.camera for view in views], None, pictures)
    refuse_errors(found.findings)
    without = [view.name for view in views if view.name not in found.masks]
    if without:
        raise DataError(
            f"{folder}: no semantic classes of {len(without)} views, {without[0]} first"
        )
    return found


def _default_folder(run: Run, source: Path, params: EvaluationParams) -> str:
    """The folder of true masks; where the scene has none, the masks that the run learned from."""
    trained = run.config.model.object_path
    if params.protocol == "panoptic-lifting" and (source / SCAN_TRUTH).is_dir():
        return SCAN_TRUTH
    if (source / DEFAULT_FOLDER).is_dir() or not (source / trained).is_dir():
        return DEFAULT_FOLDER
    logger.info(
        "%s: no %s to score against, so %s, which was trained on, is taken for the truth",
        source,
        DEFAULT_FOLDER,
        trained,
    )
    return trained


def check_numbering(run: Run, truth: Truth) -> None:
    """UserError where the ids of the truth cannot be those of the run (scored by id)."""
    if run.ids is None or truth.masks is None:
        return
    problem = numbering_problem(run.ids, truth.masks)
    if problem:
        raise UserError(f"{truth.folder}: {problem}; score with --matching scene")


def _kind(source: Path, folder: str, params: EvaluationParams) -> str:
    if params.ground_truth in ("human", "synthetic"):
        return params.ground_truth
    if not params.ground_truth and Path(folder).name == SCAN_TRUTH:
        return "human"
    about = source / "scene.json"
    if not params.ground_truth and about.is_file():
        return str(read_json(about).get("ground_truth", f"pseudo:{folder}"))
    return f"pseudo:{folder}"
