# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of `edit.py`, over an opened run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from arguments import editing
from arguments.editing import RunParams
from iqgs.engine.objects.choosing import chosen_objects
from iqgs.engine.objects.cleaning import clean_objects, write_cleaning
from iqgs.engine.objects.decisions import forget_unused
from iqgs.engine.objects.extraction import extract, extract_all, folder_for_several
from iqgs.engine.objects.leveling import at_wanted_level
from iqgs.engine.objects.listing import Listed, list_objects
from iqgs.engine.objects.making import MAKERS
from iqgs.engine.objects.opened import after_edit, replayed
from iqgs.engine.objects.scoring import compared, true_masks
from iqgs.engine.objects.script import EditScript, read_script
from iqgs.engine.run import Run
from iqgs.engine.run_folder import objects_folder
from iqgs.objects import edits
from iqgs.objects.cleaning import Cleaning, apply_cleaning, with_instance_opacity
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.selection import EVERY
from utils.errors import UserError
from utils.run_lock import RunLock


def run_edit_command(command: str, run: Run, params: RunParams) -> list[str]:
    """Do what a sub-command asks for; returns what to tell the user. UserError, DataError."""
    if command in MAKERS:
        return _edit(run, params, MAKERS[command])
    return _OTHERS[command](run, params)


def _edit(run: Run, params: RunParams, make: Callable[..., list[edits.Edit]]) -> list[str]:
    """Make the edits, see that they can be replayed, and only then write them down."""
    with RunLock(run.folder):
        before = read_script(run)
        script, objects = before, replayed(run, before.edits)
        said: list[str] = []
        try:
            if getattr(params, "clean", False):
                script, objects, said = _cleaned(run, objects, before, params)
            for edit in make(run, objects, params):
                after = after_edit(run, objects, edit)
                script = script.with_edit(edit)
                said.append(f"{describe(edit, objects)}: {_change(objects, after)}")
                objects = after
            script.write(before)
        except ValueError as error:
            raise UserError(str(error)) from None
        finally:
            known = read_script(run)
            forget_unused(run.folder, (*known.edits, *known.undone))
    return [*said, _where(script)]


def _cleaned(
    run: Run, objects: LabelledSplats, script: EditScript, params: Any
) -> tuple[EditScript, LabelledSplats, list[str]]:
    """A script that cleans, its objects and what to say; as they are where one was cleaned."""
    cleaning = _cleaning(run, objects, script.edits, params)
    if cleaning is None:
        return script, objects, []
    after = apply_cleaning(objects, cleaning)
    said = [f"clean: {_change(objects, after)}"]
    return script.with_edit(write_cleaning(run.folder, cleaning)), after, said


def _cleaning(
    run: Run, objects: LabelledSplats, done: Sequence[edits.Edit], params: Any
) -> Cleaning | None:
    """The cleaning of objects; None where they were cleaned before."""
    if any(isinstance(edit, edits.Clean) for edit in done):
        return None
    return clean_objects(run, objects, done, params)


def _list(run: Run, params: editing.ListParams) -> list[str]:
    with RunLock(run.folder):
        script = read_script(run)
        objects = at_wanted_level(run, replayed(run, script.edits), params)
        level = params.wanted_level
        folder = objects_folder(run.folder, level)
        about = Listed(len(script.edits), level)
        return list_objects(run, objects, about, folder, params.previews)


def _extract(run: Run, params: editing.OutputParams) -> list[str]:
    if EVERY in params.id:
        return _extract_all(run, params)
    objects = _to_extract(run, params)
    folder = objects_folder(run.folder, params.wanted_level)
    return extract(objects, chosen_objects(run, objects, params), params.output, folder)


def _extract_all(run: Run, params: editing.OutputParams | editing.ExtractAllParams) -> list[str]:
    level = params.wanted_level
    folder = folder_for_several(params.output, objects_folder(run.folder, level))
    objects = _to_extract(run, params)
    said = extract_all(objects, folder, tidy=not params.output)
    if isinstance(params, editing.ExtractAllParams) and params.previews:
        with RunLock(run.folder):
            about = Listed(len(read_script(run).edits), level)
            said += list_objects(run, objects, about, folder, pictures=True)
    return said


def _to_extract(
    run: Run, params: editing.OutputParams | editing.ExtractAllParams
) -> LabelledSplats:
    """The edited objects at a level, with --clean cleaned for this once."""
    script = read_script(run)
    objects = replayed(run, script.edits)
    cleaning = _cleaning(run, objects, script.edits, params) if params.clean else None
    objects = objects if cleaning is None else apply_cleaning(objects, cleaning)
    if params.instance_opacity:
        if objects.hidden is None:  # only cleaning knows what is hidden, and asks for votes
            raise UserError("--instance_opacity needs the votes of --clean; give that too")
        objects = with_instance_opacity(objects)
    return at_wanted_level(run, objects, params)


def _clean(run: Run, params: editing.CleanParams) -> list[str]:
    """Clean, and say what it brings where somebody can tell."""
    with RunLock(run.folder):
        before = read_script(run)
        objects = replayed(run, before.edits)
        if any(isinstance(edit, edits.Clean) for edit in before.edits):
            raise UserError(f"{run.folder} is cleaned already; `undo` that first, or go on")
        truth = true_masks(run, objects, params.score_views) if params.score else None
        cleaning = clean_objects(run, objects, before.edits, params)
        after = apply_cleaning(objects, cleaning)
        script = before.with_edit(write_cleaning(run.folder, cleaning))
        script.write(before)
    aside = int(((objects.labels != 0).sum() - (after.labels != 0).sum()).clamp_min(0))
    said = [f"clean: {_change(objects, after)}; {aside} fewer splats belong to an object"]
    if truth is not None:
        said += compared(run, objects, after, truth)
    return [*said, _where(script)]


def _undo(run: Run, params: RunParams) -> list[str]:
    return _step(run, EditScript.without_last, "undone")


def _redo(run: Run, params: RunParams) -> list[str]:
    return _step(run, EditScript.with_last_undone, "made again")


def _step(run: Run, step: Callable[[EditScript], EditScript], words: str) -> list[str]:
    with RunLock(run.folder):
        before = read_script(run)
        after = step(before)
        shorter, longer = sorted((before, after), key=lambda script: len(script.edits))
        objects = replayed(run, shorter.edits)
        if longer is after:
            replayed(run, after.edits)  # one that cannot be replayed is not written
        after.write(before)
    return [f"{words}: {describe(longer.edits[-1], objects)}", _where(after)]


def _log(run: Run, params: RunParams) -> list[str]:
    script = read_script(run)
    lines = [f"{k} {json.dumps(edits.to_record(e))}" for k, e in enumerate(script.edits, 1)]
    undone = [f"undone {json.dumps(edits.to_record(e))}" for e in reversed(script.undone)]
    return [*lines, *undone] or [f"{run.folder} has no edits"]


_OTHERS: dict[str, Callable[[Run, Any], list[str]]] = {
    "list": _list,
    "extract": _extract,
    "extract-all": _extract_all,
    "clean": _clean,
    "undo": _undo,
    "redo": _redo,
    "log": _log,
}


def describe(edit: edits.Edit, objects: LabelledSplats) -> str:
    """An edit in words, with the names that its objects had before it."""

    def called(number: int) -> str:
        return f"{objects.names[number]} ({number})" if number in objects.names else str(number)

    words = type(edit).__name__.lower()
    if isinstance(edit, edits.Clean):
        return words
    if isinstance(edit, edits.Split | edits.Parts | edits.Name):
        words += f" {called(edit.object)}"
    else:
        words += f" {', '.join(map(called, edit.objects))}"
    if isinstance(edit, edits.Merge):
        return f"{words} -> {called(edit.into)}"
    if isinstance(edit, edits.Name):
        return f"{words} -> {edit.name or 'no name'}"
    if isinstance(edit, edits.Copy | edits.Split | edits.Parts):
        return f"{words} -> {', '.join(map(str, edit.numbers))}"
    return words


def _change(before: LabelledSplats, after: LabelledSplats) -> str:
    if len(before) == len(after):
        return f"{len(after)} splats, {len(after.numbers())} objects"
    return f"{len(before)} -> {len(after)} splats, {len(after.numbers())} objects"


def _where(script: EditScript) -> str:
    if not script.edits:
        return "no edits are left: the objects are as training left them"
    count = len(script.edits)
    words = "1 edit; `undo` takes it" if count == 1 else f"{count} edits; `undo` takes the last one"
    return f"{script.path}: {words} back"
