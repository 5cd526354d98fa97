# SPDX-License-Identifier: Apache-2.0
"""Objects of a run: found by number or name, cut out as files of their own."""

from __future__ import annotations

from pathlib import Path

from arguments.exporting import ExtractParams
from iqgs.engine.objects.opened import trained_objects
from iqgs.engine.run import Run
from utils.errors import UserError


def object_number(run: Run, wanted: str) -> int:
    """The number of an object in the mask files, from that number or from its name. UserError."""
    if wanted.isdigit():
        return int(wanted)
    names = {} if run.ids is None else run.ids.names
    found = [number for number, name in names.items() if name == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"--id {wanted}: objects {sorted(found)} have this name; give a number")
    known = ", ".join(f"{number} {name!r}" for number, name in sorted(names.items()))
    raise UserError(f"--id {wanted}: no object has this name; {known or 'the run has no names'}")


def extract_object(run: Run, params: ExtractParams) -> str:
    """Write the splats of one object; returns a line that says where and how many."""
    objects = trained_objects(run)
    number = object_number(run, params.id)
    chosen = objects.of(number)
    if not number or not len(chosen):
        present = objects.numbers()
        raise UserError(f"--id {params.id}: no splat belongs to it; the run has {present}")
    path = Path(params.output or run.folder / "objects" / f"{number}.ply")
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen.splats.save_ply(path, viewer=True, instance=chosen.labels, frame=run.frame)
    return f"{path} ({len(chosen)} splats)"
