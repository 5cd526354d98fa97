# SPDX-License-Identifier: Apache-2.0
"""What the views of a run are scored against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arguments.evaluation import EvaluationParams
from iqgs.engine.run import Run
from scene.masks import find_mask_files, read_label_names, read_masks
from scene.view import View
from utils.errors import UserError
from utils.json_files import read_json

Ids = NDArray[np.int32]
DEFAULT_FOLDER = "object_mask"


@dataclass(frozen=True)
class Truth:
    """The files of the true masks of some views, by view name; each is read when it is needed."""

    files: Mapping[str, Path]
    kind: str  # human | synthetic | pseudo:<folder> | none
    names: Mapping[int, str]

    def of(self, view: View) -> Ids | None:
        """True ids [H, W] of a view, in the numbers of the files; None where it has none."""
        path = self.files.get(view.name)
        return None if path is None else read_masks(path, view.camera, None).label_map


def find_truth(run: Run, views: Sequence[View], params: EvaluationParams) -> Truth:
    """True masks of these views; those without one are left out of the instance scores."""
    source = Path(run.config.model.source_path)
    wanted = params.gt_path or DEFAULT_FOLDER
    folder = source / wanted  # an absolute --gt_path wins over the scene's folder
    if not folder.is_dir():
        if params.gt_path:
            raise UserError(f"--gt_path {wanted}: no such folder in {source}")
        return Truth({}, "none", {})
    files = find_mask_files(folder, [view.name for view in views])
    kind = _kind(source, wanted, params)
    return Truth(files, kind, read_label_names(source / "labels.json"))


def _kind(source: Path, folder: str, params: EvaluationParams) -> str:
    if params.ground_truth in ("human", "synthetic"):
        return params.ground_truth
    about = source / "scene.json"
    if not params.ground_truth and about.is_file():
        return str(read_json(about).get("ground_truth", f"pseudo:{folder}"))
    return f"pseudo:{folder}"
