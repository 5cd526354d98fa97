# SPDX-License-Identifier: Apache-2.0
"""`objects.json`, previews and the table of the objects of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqgs.engine.objects.previews import Pixels, best_views, contact_sheet, preview
from iqgs.engine.pictures.files import write_picture
from iqgs.engine.run import Run
from iqgs.objects.catalog import FORMAT, ObjectEntry, by_object, catalog
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import parts_of
from utils.errors import UserError
from utils.json_files import read_json
from utils.storage import atomic_folder, write_text

OBJECTS_FILE, PREVIEWS, SHEET_FILE = "objects.json", "previews", "objects.png"
BOX_WORDS = (
    "least and largest x y z in the run's coordinates; of an object's opacity 1 % may lie beyond "
    "each face, strays far off not counted"
)


@dataclass(frozen=True)
class Listed:
    """What the objects of a list are, beside their splats."""

    edits: int  # of the run, made before
    level: int | None = None  # None: as training and edits left them


def list_objects(
    run: Run, objects: LabelledSplats, about: Listed, folder: Path, pictures: bool
) -> list[str]:
    """Write objects.json into `folder`, with `pictures` also previews and a sheet; returns the
    table's lines.

    Files that an older objects.json names for an object stay named while nothing of the object has
    changed.
    """
    entries = catalog(objects)
    shown = _previews(run, objects, entries, folder) if pictures else {}
    record = objects_record(run, objects, entries, about)
    before = _rows(folder / OBJECTS_FILE)
    for row in record["objects"]:
        row.update(_still_there(folder, before.get(row["id"], {}), row))
        row.update(shown.get(row["id"], {}))
    write_text(folder / OBJECTS_FILE, json.dumps(record, indent=1) + "\n")
    said = [*table(entries), f"{folder / OBJECTS_FILE}: {len(entries)} objects"]
    return [*said, f"pictures of all: {folder / SHEET_FILE}"] if pictures and entries else said


def objects_record(
    run: Run, objects: LabelledSplats, entries: Sequence[ObjectEntry], about: Listed
) -> dict[str, Any]:
    """What objects.json says, without pictures."""
    return {
        "format": FORMAT,
        "iteration": run.iteration,
        "edits": about.edits,
        "level": about.level,
        "frame": {"origin": list(objects.frame.origin), "up": objects.frame.up},
        "box": BOX_WORDS,
        "splats": len(objects),
        "splats_of_no_object": int((objects.labels == 0).sum()),
        "objects": [entry.to_record() for entry in entries],
        "wholes": [
            {
                "id": whole,
                "name": objects.names.get(whole, ""),
                "parent": objects.parents.get(whole),
                "parts": parts_of(objects, whole),
            }
            for whole in sorted(set(objects.parents.values()) - set(objects.numbers()))
        ],
    }


def _rows(path: Path) -> dict[int, Mapping[str, Any]]:
    """The rows of an objects.json by number; none where there is no readable one."""
    try:
        rows = read_json(path)["objects"]
        return {int(row["id"]): dict(row) for row in rows}
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return {}


def _still_there(folder: Path, before: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The files that an older row names, where it is about the very same object."""
    if any(before.get(key) != value for key, value in row.items()):
        return {}
    kept: dict[str, Any] = {}
    if (folder / str(before.get("preview"))).is_file():
        kept = {key: before[key] for key in ("preview", "view") if key in before}
    files = before.get("files")
    if isinstance(files, dict):
        kept["files"] = {k: name for k, name in files.items() if (folder / str(name)).is_file()}
    return kept


def table(entries: Sequence[ObjectEntry]) -> list[str]:
    """A line an object: number, name, splats, size, colour, confidence."""
    head = ("id", "name", "parent", "splats", "size x y z", "colour", "confidence")
    rows = [head]
    for entry in entries:
        r, g, b = (round(255 * min(max(c, 0.0), 1.0)) for c in entry.color)
        size = " ".join(f"{value:.3g}" for value in entry.size)
        parent = "" if entry.parent is None else str(entry.parent)
        shown = (str(entry.id), entry.name, parent, str(entry.splats), size)
        rows.append((*shown, f"#{r:02x}{g:02x}{b:02x}", f"{entry.confidence:.2f}"))
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    right = (0, 3, 6)
    return [
        "  ".join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _previews(
    run: Run, objects: LabelledSplats, entries: Sequence[ObjectEntry], folder: Path
) -> dict[int, dict[str, str]]:
    """Write the previews and the sheet; returns for each object its picture and its view."""
    views = best_views(run, objects)
    cameras = (*run.cameras.train, *run.cameras.test)
    known = {entry.id: entry for entry in entries}
    pictures: dict[int, Pixels] = {}
    with atomic_folder(folder / PREVIEWS) as temporary:
        for number, part in by_object(objects):
            if number:
                camera = views.get(number, cameras[0])
                pictures[number] = preview(run, part.splats, known[number], camera)
                write_picture(temporary / f"{number}.png", pictures[number])
    if entries:
        write_picture(folder / SHEET_FILE, contact_sheet(entries, pictures))
    return {
        number: {
            "preview": f"{PREVIEWS}/{number}.png",
            **({"view": views[number].name} if number in views else {}),
        }
        for number in pictures
    }
