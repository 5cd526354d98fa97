# SPDX-License-Identifier: Apache-2.0
"""Associated masks as a folder: id maps, names, and the report that says how sure they are.

OUT/<image>.png  OUT/labels.json  OUT/association.json. A pixel of value 65535 has no target. Where
ids do not fit 16 bits and must not change, files are 32-bit TIFFs with -1 there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from scene.masks import NO_TARGET, IdTable
from scene.view import View
from utils.errors import FormatError, MaskError
from utils.images import write_id_map
from utils.json_files import read_json
from utils.storage import atomic_folder, write_text

REPORT_FILE = "association.json"
FORMAT = "iqgs-association-1"
NOTHING_KNOWN = 65535  # in the files: no target
LARGEST = NOTHING_KNOWN - 1

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class AssociatedMasks:
    """A folder of masks that agree."""

    IN_RUN: ClassVar[str] = "repaired_masks"  # the folder in that of a run

    folder: Path
    files: Mapping[str, str]  # image name -> file
    table: IdTable
    tracks: bool  # ids number tracks and mean nothing to the files that were read
    changed: float  # share of the pixels whose label is another one (with `tracks`: beyond its id)

    @classmethod
    def read(cls, folder: Path) -> AssociatedMasks | None:
        """What `write_masks` wrote; None where there is none. Raises DataError, FormatError."""
        path = folder / REPORT_FILE
        if not path.is_file():
            return None
        record = read_json(path)
        try:
            if record["format"] != FORMAT:
                raise FormatError(f"{path}: format {record['format']!r} is not {FORMAT!r}")
            files = {str(name): str(file) for name, file in record["files"].items()}
            tracks, changed = record["start"] == "graph", float(record["changed"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path}: not a report of associated masks ({error})") from error
        return cls(folder, files, IdTable.load(folder / "ids.json"), tracks, changed)

    def seen_by(self, view: View) -> View:
        """The view with these masks; as it is where there are none for it."""
        file = self.files.get(view.name)
        return view if file is None else view.with_masks(self.folder / file, self.table)


def numbers_that_fit(names: Labels) -> Labels:
    """The names [K] of tracks within 1..65534: those above get numbers that nobody has.

    Raises MaskError for more tracks than there are numbers.
    """
    if len(names) > LARGEST:
        raise MaskError(
            f"{len(names)} objects do not fit 16 bits: no more than {LARGEST} do", "ids"
        )
    large = names > LARGEST
    free = np.setdiff1d(np.arange(1, len(names) + 1), names[~large])
    fitting = names.copy()
    fitting[large] = free[: int(large.sum())]
    return fitting


def mask_suffix(numbers: Labels) -> str:
    """Of files that hold these ids beside a number for no target."""
    return ".png" if numbers.max(initial=0) <= LARGEST else ".tiff"


def no_target_of(suffix: str) -> int:
    """The value of pixels without a target in such files."""
    return NOTHING_KNOWN if suffix == ".png" else NO_TARGET


def write_masks(
    target: Path,
    maps: Iterable[tuple[str, Labels]],
    report: Callable[[], Mapping[str, Any]],
    table: IdTable,
) -> AssociatedMasks:
    """Write (file name, label map [H, W]) one after the other, then the report; all or nothing."""
    with atomic_folder(target) as folder:
        for file, labels in maps:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            no_target = no_target_of(path.suffix)
            write_id_map(path, np.where(labels == NO_TARGET, no_target, labels))
        table.save(folder / "ids.json")
        if table.names:
            names = {str(number): name for number, name in sorted(table.names.items())}
            write_text(folder / "labels.json", json.dumps({"id_to_name": names}, indent=1) + "\n")
        record = {"format": FORMAT, **report()}
        write_text(folder / REPORT_FILE, json.dumps(record, indent=1) + "\n")
    found = AssociatedMasks.read(target)
    assert found is not None
    return found
