# SPDX-License-Identifier: Apache-2.0
"""Objects of a run written as splat files of their own, for viewers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from arguments.exporting import ExtractParams
from iqgs.engine.objects.choosing import object_number, parts_or_itself
from iqgs.engine.objects.leveling import at_wanted_level
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.run import Run
from iqgs.engine.run_folder import objects_folder
from iqgs.objects.catalog import by_object
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import at_level
from utils.errors import UserError

REST = "rest"  # what belongs to no object
SUFFIX = ".ply"

logger = logging.getLogger(__name__)


def extract_object(run: Run, params: ExtractParams) -> str:
    """Write the splats of one object; returns a line that says where and how many."""
    objects = edited_objects(run)
    if params.level:
        objects = at_wanted_level(run, objects, params)
    elif len(parts_or_itself(objects, params.id)) > 1:
        objects = at_level(objects, 0)
    folder = objects_folder(run.folder, params.wanted_level)
    return extract(objects, [object_number(objects, params.id)], params.output, folder)[0]


def extract(
    objects: LabelledSplats, chosen: Sequence[int], output: str, default: Path
) -> list[str]:
    """Write these objects, one file each; returns a line for each that says where and how many.

    `output` is a file for one object and a folder for several; empty: the folder `default`.
    """
    if len(chosen) == 1 and output:
        return [_write(_file(output), objects.of(chosen[0]))]
    folder = folder_for_several(output, default, chosen)
    return [_write(folder / f"{number}.ply", objects.of(number)) for number in chosen]


def extract_all(objects: LabelledSplats, folder: Path, tidy: bool) -> list[str]:
    """Write every object, and as rest.ply what belongs to none: together all splats, each once.

    With `tidy` numbered files of objects that are no more are removed.
    """
    names, count = set(), 0
    for number, part in by_object(objects):
        path = folder / f"{number or REST}.ply"
        _write(path, part)
        names.add(path.name)
        count += bool(number)
    if tidy:
        for path in folder.glob("*.ply"):
            if path.name not in names and re.fullmatch(rf"\d+|{REST}", path.stem):
                logger.info("%s is removed: there is no such object any more", path)
                path.unlink()
    rest = int((objects.labels == 0).sum())
    return [
        f"{folder}: {count} objects of {len(objects) - rest} splats, and {REST}.ply of {rest}"
        if rest
        else f"{folder}: {count} objects of {len(objects)} splats; nothing belongs to no object"
    ]


def folder_for_several(output: str, default: Path, chosen: Sequence[int] = ()) -> Path:
    """The folder that -o names, else `default`. UserError where -o names a file."""
    folder = Path(output) if output else default
    which = f" ({', '.join(map(str, chosen))} are chosen)" if len(chosen) > 1 else ""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"-o {folder} is a file; name a folder for several objects{which}")
    if output and folder.suffix.lower() == SUFFIX and not folder.exists():
        raise UserError(f"-o {folder} is named as a file; name a folder for several objects{which}")
    return folder


def _file(output: str) -> Path:
    """The file that -o names, which ends in .ply. UserError where it is another or a folder."""
    path = Path(output)
    if path.is_dir():
        raise UserError(f"-o {path} is a folder; name the file to write")
    if not path.suffix:
        return path.with_name(path.name + SUFFIX)
    if path.suffix.lower() != SUFFIX:
        raise UserError(f"-o {path}: a {SUFFIX} file is written here; export.py writes other kinds")
    return path


def _write(path: Path, part: LabelledSplats) -> str:
    part.splats.save_ply(path, viewer=True, instance=part.labels, frame=part.frame)
    return f"{path} ({len(part)} splats)"
