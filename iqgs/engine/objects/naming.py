# SPDX-License-Identifier: Apache-2.0
"""Names of objects that programs found or people typed, as edits of the run."""

from __future__ import annotations

from collections.abc import Mapping

from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.objects.recording import record_edits
from iqgs.engine.run import Run
from iqgs.objects.edits import Name
from iqgs.objects.selection import name_problem
from utils.errors import UserError


def record_names(run: Run, names: Mapping[int, str]) -> None:
    """Call objects by these names from now on, an edit each; an empty name takes one away.

    UserError for a name that another object keeps, for one that is a number, and for an object that
    is not there.
    """
    if not names:
        return
    names = {number: name.strip() for number, name in names.items()}
    others = {n: name for n, name in edited_objects(run).names.items() if n not in names}
    for number, name in names.items():
        problem = name_problem(name)
        if problem:
            raise UserError(f"object {number}: the name {name!r} {problem}; choose another one")
        taken = next((n for n, other in others.items() if name and other == name), None)
        if taken is not None:
            raise UserError(f"object {number} cannot be {name!r}: object {taken} is called so")
        others[number] = name
    record_edits(run, *(Name(number, name) for number, name in names.items()))
