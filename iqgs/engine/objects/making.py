# SPDX-License-Identifier: Apache-2.0
"""From the command lines of `edit.py` to edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arguments import editing
from arguments.editing import SelectionParams, numbers
from iqgs.engine.objects.choosing import chosen_objects, chosen_wholes, object_number
from iqgs.engine.objects.parting import find_pieces, write_pieces
from iqgs.engine.run import Run
from iqgs.objects import edits
from iqgs.objects.applying import split_pieces
from iqgs.objects.catalog import common_center
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.selection import name_problem, next_numbers
from utils.errors import UserError

UPWARDS: edits.Vector = (0.0, 0.0, 1.0)  # where nobody knows what is up


def _remove(run: Run, objects: LabelledSplats, params: editing.RemoveParams) -> list[edits.Edit]:
    return [edits.Remove(chosen_objects(run, objects, params), params.hull)]


def _isolate(run: Run, objects: LabelledSplats, params: SelectionParams) -> list[edits.Edit]:
    return [edits.Isolate(chosen_objects(run, objects, params))]


def _recolor(run: Run, objects: LabelledSplats, params: editing.RecolorParams) -> list[edits.Edit]:
    return [edits.Recolor(chosen_objects(run, objects, params), params.rgb)]


def _move(run: Run, objects: LabelledSplats, params: editing.MoveParams) -> list[edits.Edit]:
    """One edit an object: each turns about its own middle, and parts about that of the whole."""
    chosen = chosen_wholes(run, objects, params)
    _check_moving("move", params)
    return [edits.Move(parts, _motion(objects, parts, params)) for parts in chosen]


def _copy(run: Run, objects: LabelledSplats, params: editing.MoveParams) -> list[edits.Edit]:
    made: list[edits.Edit] = []
    _check_moving("copy", params)
    taken = _taken(run, objects)
    for parts in chosen_wholes(run, objects, params):
        new = next_numbers(taken, len(parts))
        taken += new
        made.append(edits.Copy(parts, new, _motion(objects, parts, params)))
    return made


def _merge(run: Run, objects: LabelledSplats, params: editing.MergeParams) -> list[edits.Edit]:
    chosen = chosen_objects(run, objects, params)
    into = object_number(objects, params.into) if params.into else chosen[0]
    if not set(chosen) - {into}:
        raise UserError("merge needs at least two objects; give several to --id")
    return [edits.Merge(chosen, into)]


def _split(run: Run, objects: LabelledSplats, params: editing.SplitParams) -> list[edits.Edit]:
    number = 0 if params.id == "0" else object_number(objects, params.id)
    box, plane = (
        tuple(numbers(flag, text, 6)) if text else None
        for flag, text in (("box", params.box), ("plane", params.plane))
    )
    asked = edits.Split(number, (), box, plane)  # type: ignore[arg-type]
    pieces = int(split_pieces(objects.of(number).splats, asked).max())
    new = next_numbers(_taken(run, objects), pieces)
    return [edits.Split(number, new, asked.box, asked.plane)]


def _parts(run: Run, objects: LabelledSplats, params: editing.PartsParams) -> list[edits.Edit]:
    number = object_number(objects, params.id)
    piece = find_pieces(run, objects, number, params.count, params.quiet)
    new = next_numbers(_taken(run, objects), int(piece.max()) + 1)
    return [write_pieces(run.folder, number, new, piece)]


def _name(run: Run, objects: LabelledSplats, params: editing.NameParams) -> list[edits.Edit]:
    chosen = chosen_objects(run, objects, params)
    if len(chosen) != 1:
        raise UserError(f"name is for one object, and {len(chosen)} are chosen: {list(chosen)}")
    name = params.name.strip()
    problem = name_problem(name)
    if problem:
        raise UserError(f"--name {name!r} {problem}; choose another one")
    same = [n for n, other in objects.names.items() if other == name and n != chosen[0]]
    if same and name:
        raise UserError(f"--name {name}: object {same[0]} is called so already")
    return [edits.Name(chosen[0], name)]


MAKERS: dict[str, Callable[..., list[edits.Edit]]] = {
    "remove": _remove,
    "isolate": _isolate,
    "recolor": _recolor,
    "move": _move,
    "copy": _copy,
    "merge": _merge,
    "split": _split,
    "parts": _parts,
    "name": _name,
}


def _taken(run: Run, objects: LabelledSplats) -> list[int]:
    """Numbers that objects have, or had when training ended."""
    known = () if run.ids is None else run.ids.originals
    return [*known, *objects.names, *objects.parents.values(), *objects.numbers()]


def _check_moving(command: str, params: editing.MoveParams) -> None:
    """UserError where nothing would be in another place than before."""
    if not any(numbers("by", params.by, 3)) and not params.degrees and params.scale == 1:
        raise UserError(f"{command} changes nothing; give --by, --degrees or --scale")


def _motion(
    objects: LabelledSplats, parts: Sequence[int], params: editing.MoveParams
) -> edits.Motion:
    x, y, z = numbers("by", params.by, 3)
    if params.axis == "up":
        axis = objects.frame.up or UPWARDS
    else:
        a, b, c = numbers("axis", params.axis, 3)
        axis = (a, b, c)
    center = common_center(objects, parts)
    return edits.Motion(center, (x, y, z), axis, params.degrees, params.scale)
