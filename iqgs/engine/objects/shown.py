# SPDX-License-Identifier: Apache-2.0
"""A run as its edits left it, or at a level of its objects, for everything that takes a run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from arguments.levels import LevelParams
from gaussian_renderer import Lens
from iqgs.engine.objects.leveling import at_wanted_level
from iqgs.engine.objects.opened import replayed, run_objects, trained_objects
from iqgs.engine.objects.script import read_script
from iqgs.engine.run import Run
from iqgs.methods.hard_labels import ClosedForm
from iqgs.methods.protocol import FitView, IdKind, SplatLabels
from iqgs.objects.edits import Name
from iqgs.objects.labelled import LabelledSplats
from scene.masks import IdTable
from utils.errors import UserError

logger = logging.getLogger(__name__)


class LabelAnswer(ClosedForm):
    """Every splat has a label already, compact as a table numbers them."""

    ids: IdKind = "global"

    def __init__(self, labels: torch.Tensor, confidence: torch.Tensor) -> None:
        super().__init__()
        self.labels, self.confidence = labels, confidence

    def fit(self, views: Iterable[FitView]) -> None:
        """Nothing is learned any more."""

    def finish(self, lenses: Iterable[Lens]) -> None:
        """Nothing either."""


def has_edits(run: Run) -> int:
    """Edits of the run that change more than a name."""
    if run.method is None and run.saved_labels is None:
        return 0
    return sum(not isinstance(edit, Name) for edit in read_script(run).edits)


def with_objects(run: Run, objects: LabelledSplats, edition: str) -> Run:
    """The same run with these splats and objects, whose labels are its answer for every view."""
    numbers = objects.numbers()
    device = objects.splats.device
    compact = torch.searchsorted(torch.tensor([0, *numbers]), objects.labels)
    # A hand-made number is as sure as one that training found; splats of none speak for none.
    labels = LabelAnswer(compact.to(device), torch.ones(len(objects), device=device))
    names = {number: name for number, name in objects.names.items() if number in set(numbers)}
    facts = None if run.facts is None else replace(run.facts, num_ids=max(len(numbers), 1))
    zero = "background" if run.ids is None else run.ids.zero_label
    changes: dict[str, Any] = {
        "gaussians": objects.splats,
        "ids": IdTable(tuple(numbers), names, zero),
        "method": labels,
        "facts": facts,
        "edition": edition,
        "saved_labels": SplatLabels(objects.labels, objects.confidence, "global"),
    }
    return replace(run, **changes)


def shown_run(run: Run, edited: bool, params: LevelParams) -> tuple[Run, LabelledSplats | None]:
    """The run as edits or training left it, at a level, and its objects; None where it is the run
    itself. UserError where a level is asked of a run without objects.
    """
    edited = edited and has_edits(run) > 0
    if not edited and not params.level:
        return run, None
    if run.method is None and run.saved_labels is None:
        raise UserError(f"--level {params.level}: {run.folder} was trained without masks")
    objects = replayed(run, read_script(run).edits if edited else ())
    edition = "_edited" if edited else ""
    edition += f"_level{params.wanted_level}" if params.level else ""
    objects = at_wanted_level(run, objects, params)
    return with_objects(run, objects, edition), objects


def unedited_objects(run: Run) -> LabelledSplats:
    """The splats of a run and, where it has such, their objects, as training left them."""
    none = run.method is None and run.saved_labels is None
    return run_objects(run) if none else trained_objects(run)
