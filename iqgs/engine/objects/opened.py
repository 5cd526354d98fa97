# SPDX-License-Identifier: Apache-2.0
"""The objects of a run, from its own files alone."""

from __future__ import annotations

import torch

from iqgs.engine.run import Run, splat_labels
from iqgs.objects.labelled import LabelledSplats
from utils.errors import UserError


def trained_objects(run: Run) -> LabelledSplats:
    """The splats of a run with their objects, as training left them. UserError without masks."""
    if run.method is None and run.saved_labels is None:
        raise UserError(f"{run.folder} was trained without masks: it has no objects")
    found = splat_labels(run)
    names = {} if run.ids is None else run.ids.names
    return LabelledSplats(
        run.gaussians, found.labels.cpu(), found.confidence.cpu(), run.frame, dict(names)
    )


def run_objects(run: Run) -> LabelledSplats:
    """The same, but the splats of a run without masks are of no object."""
    if run.method is not None or run.saved_labels is not None:
        return trained_objects(run)
    none = torch.zeros(len(run.gaussians), dtype=torch.int64)
    return LabelledSplats(run.gaussians, none, torch.zeros(len(none)), run.frame)
