# SPDX-License-Identifier: Apache-2.0
"""Edits written down by programs, as `edit.py` writes those of people."""

from __future__ import annotations

from iqgs.engine.objects.opened import after_edit, replayed
from iqgs.engine.objects.script import read_script
from iqgs.engine.run import Run
from iqgs.objects.edits import Edit
from iqgs.objects.labelled import LabelledSplats
from utils.errors import UserError
from utils.run_lock import RunLock


def record_edits(run: Run, *edits: Edit) -> LabelledSplats:
    """Add edits to a run's script, all or none; returns the objects after them.

    UserError where one of them does not fit or another process holds the run.
    """
    with RunLock(run.folder):
        before = read_script(run)
        objects = replayed(run, before.edits)
        for edit in edits:
            try:
                objects = after_edit(run, objects, edit)
            except ValueError as error:
                raise UserError(str(error)) from None
        before.with_edit(*edits).write(before)
    return objects


def undo_edit(run: Run) -> Edit:
    """Take the last edit back; returns it. UserError where there is none."""
    with RunLock(run.folder):
        before = read_script(run)
        before.without_last().write(before)
    return before.edits[-1]
