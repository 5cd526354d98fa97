# SPDX-License-Identifier: Apache-2.0
"""The edit script of a run: `edits.jsonl`, a line an edit, replayed over the trained splats.

Its first line says which splats it was made for. `edits_undone.jsonl` keeps what undo took back,
for redo. Both are absent where there is nothing in them, so that undoing all leaves no trace.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iqgs.engine.objects.cleaning import forget_unused
from iqgs.engine.run import Run
from iqgs.engine.run_folder import EDITS_FILE, UNDONE_FILE
from iqgs.objects.edits import Edit, from_record, to_record
from utils.errors import DataError, FormatError, UserError
from utils.storage import write_text

FORMAT = 1


@dataclass(frozen=True)
class EditScript:
    """The edits of a run's folder, oldest first."""

    folder: Path
    iteration: int  # of the splats that they were made for
    splats: int  # how many these were
    edits: tuple[Edit, ...] = ()
    undone: tuple[Edit, ...] = ()  # the last one was undone last

    @property
    def path(self) -> Path:
        """Where it is written."""
        return self.folder / EDITS_FILE

    def with_edit(self, *edits: Edit) -> EditScript:
        """Some edits more; what was undone cannot be redone any more."""
        return replace(self, edits=(*self.edits, *edits), undone=())

    def without_last(self) -> EditScript:
        """The script before its last edit. UserError where there is none."""
        if not self.edits:
            raise UserError(f"{self.folder} has no edits to undo")
        return replace(self, edits=self.edits[:-1], undone=(*self.undone, self.edits[-1]))

    def with_last_undone(self) -> EditScript:
        """The script with the edit that was undone last. UserError where there is none."""
        if not self.undone:
            raise UserError(f"{self.folder} has no undone edit to redo")
        return replace(self, edits=(*self.edits, self.undone[-1]), undone=self.undone[:-1])

    def write(self, before: EditScript) -> None:
        """Write both files, each whole or not at all; call under the run's lock.

        The one that grows comes first: a kill between the two leaves an edit in both, none lost.
        """
        files = [
            (self.folder / UNDONE_FILE, self.undone, before.undone),
            (self.path, self.edits, before.edits),
        ]
        for path, edits, _ in sorted(files, key=lambda file: len(file[1]) < len(file[2])):
            self._write(path, edits)
        forget_unused(self.folder, (*self.edits, *self.undone))

    def _write(self, path: Path, edits: Sequence[Edit]) -> None:
        if not edits:
            path.unlink(missing_ok=True)
            return
        head = {"format": FORMAT, "iteration": self.iteration, "splats": self.splats}
        lines = [head, *(to_record(edit) for edit in edits)]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_script(run: Run) -> EditScript:
    """The edits of a run. FormatError for a damaged file, UserError for one of other splats."""
    iteration, splats = run.iteration, len(run.gaussians)
    edits, undone = (_read(run, run.folder / name) for name in (EDITS_FILE, UNDONE_FILE))
    return EditScript(run.folder, iteration, splats, edits, undone)


def _read(run: Run, path: Path) -> tuple[Edit, ...]:
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    records = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    head = records[0] if records else {}
    if head.get("format") != FORMAT:
        raise FormatError(f"{path}: line 1 is not that of an edit script of format {FORMAT}")
    if (head.get("iteration"), head.get("splats")) != (run.iteration, len(run.gaussians)):
        raise UserError(
            f"{path}: its edits were made on iteration {head.get('iteration')} with "
            f"{head.get('splats')} splats, and this is iteration {run.iteration} with "
            f"{len(run.gaussians)}; open that one with --iteration, or move the file away"
        )
    edits = []
    for number, record in enumerate(records[1:], 2):
        try:
            edits.append(from_record(record))
        except ValueError as error:
            raise FormatError(f"{path}: line {number}: {error}") from None
    return tuple(edits)


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise FormatError(f"{path}: line {number} is not a JSON object")
    return record
