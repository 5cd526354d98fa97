# SPDX-License-Identifier: Apache-2.0
"""The record beside a folder of masks that says who made them and what their numbers mean.

`object_mask_raw.json` belongs to `object_mask_raw/`. Most folders have none: then equal numbers are
equal objects in all views. `no_target` names the number of the pixels of which nothing is known: a
PNG has no room for -1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scene.masks.records import LARGEST_ID, NO_TARGET
from utils.errors import DataError, FormatError
from utils.json_files import read_json
from utils.storage import write_text

FORMAT = "iqgs-masks-1"
NUMBERINGS = ("ids", "view")  # as MaskContent.coding: the same in all views, or each view its own


def about_path(folder: Path) -> Path:
    """The record's file."""
    return folder.with_name(f"{folder.name}.json")


def read_about(folder: Path) -> dict[str, Any] | None:
    """The record of a folder; None where there is none of ours.

    Raises DataError or FormatError for a damaged one.
    """
    path = about_path(folder)
    if not path.is_file():
        return None
    record = read_json(path)
    if record.get("format") != FORMAT:  # of another tool, as degrade_masks.py
        return None
    if record.get("numbering") not in NUMBERINGS:
        raise FormatError(f"{path}: numbering is {record.get('numbering')!r}, not ids or view")
    number = record.get("no_target", NO_TARGET)
    if type(number) is not int or not NO_TARGET <= number <= LARGEST_ID or number == 0:
        raise FormatError(f"{path}: no_target is {number!r}, not a number of the files")
    return record


def write_about(folder: Path, numbering: str, details: Mapping[str, Any]) -> None:
    """Write the record of a folder; `details` is anything that JSON holds."""
    if numbering not in NUMBERINGS:
        raise ValueError(f"numbering is {numbering!r}, not one of {NUMBERINGS}")
    record = {"format": FORMAT, "numbering": numbering, **details}
    write_text(about_path(folder), json.dumps(record, indent=1) + "\n")


def labels_file(source: Path, folder: Path) -> Path:
    """The labels.json with the names of a folder's ids, which need not be there.

    It is the folder's own, else that of the scene; but that is about other numbers where a record
    says that the folder's were given by a program.
    """
    own = folder / "labels.json"
    try:
        is_ours = read_about(folder) is not None
    except DataError:  # a finding of the check
        is_ours = True
    return own if is_ours or own.is_file() else source / "labels.json"
