# SPDX-License-Identifier: Apache-2.0
"""The objects of a run, from its own files alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from iqgs.engine.objects.cleaning import read_cleaning
from iqgs.engine.objects.parting import read_pieces
from iqgs.engine.objects.script import read_script
from iqgs.engine.run import Run, splat_labels
from iqgs.engine.run_folder import EDITS_FILE
from iqgs.objects.applying import apply_edit, with_parts
from iqgs.objects.cleaning import apply_cleaning
from iqgs.objects.edits import Clean, Edit, Parts
from iqgs.objects.labelled import LabelledSplats
from utils.errors import DataError, UserError


def trained_objects(run: Run) -> LabelledSplats:
    """The splats of a run with their objects, as training left them. UserError without masks."""
    if run.method is None and run.saved_labels is None:
        raise UserError(f"{run.folder} was trained without masks: it has no objects")
    found = splat_labels(run)
    names = {} if run.ids is None else run.ids.names
    return LabelledSplats(
        run.gaussians, found.labels.cpu(), found.confidence.cpu(), run.frame, dict(names)
    )


def edited_objects(run: Run) -> LabelledSplats:
    """The splats of a run with their objects after all of its edits; `trained_objects` where
    there are none. Raises UserError, and DataError for an edit that cannot be replayed.
    """
    return replayed(run, read_script(run).edits)


def replayed(run: Run, edits: Sequence[Edit]) -> LabelledSplats:
    """The trained objects after these edits of the run's script."""
    objects = trained_objects(run)
    for number, edit in enumerate(edits, 2):  # line 1 is the header
        try:
            objects = after_edit(run, objects, edit)
        except ValueError as error:
            raise DataError(
                f"{run.folder / EDITS_FILE}: line {number} cannot be replayed: {error}"
            ) from None
    return objects


def after_edit(run: Run, objects: LabelledSplats, edit: Edit) -> LabelledSplats:
    """The objects after one edit. ValueError, in words, where it does not fit them; DataError."""
    if isinstance(edit, Clean):
        return apply_cleaning(objects, read_cleaning(run.folder, edit))
    if isinstance(edit, Parts):
        return with_parts(objects, edit, read_pieces(run.folder, edit))
    return apply_edit(objects, edit)


def run_objects(run: Run) -> LabelledSplats:
    """`edited_objects`, but the splats of a run without masks are of no object."""
    if run.method is not None or run.saved_labels is not None:
        return edited_objects(run)
    none = torch.zeros(len(run.gaussians), dtype=torch.int64)
    return LabelledSplats(run.gaussians, none, torch.zeros(len(none)), run.frame)
