# SPDX-License-Identifier: Apache-2.0
"""The numbering of the ids of a scene.

Inside the project ids are compact, 1..K; `IdTable` keeps the way back to the file's numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scene.masks.records import present_ids
from utils.errors import DataError, FormatError
from utils.images import read_id_map
from utils.json_files import read_json
from utils.storage import atomic_write

_TABLE_FORMAT = "iqgs-ids-1"


@dataclass(frozen=True)
class IdTable:
    """The ids of a scene: position i holds the file's number of compact id i + 1."""

    originals: tuple[int, ...]  # ascending, without 0
    names: dict[int, str] = field(default_factory=dict)  # by the file's number, where known
    zero_label: str = "background"  # what id 0 means to this run: background | ignore

    def __post_init__(self) -> None:
        values = list(self.originals)
        if values != sorted(set(values)) or (values and values[0] < 1):
            raise ValueError("ids must be ascending, different and positive")
        if self.zero_label not in ("background", "ignore"):
            raise ValueError(f"zero_label is {self.zero_label!r}, not background or ignore")

    def __len__(self) -> int:
        return len(self.originals)

    def to_compact(self, label_map: NDArray[np.integer]) -> NDArray[np.int32]:
        """File's numbers -> 0, 1..K. Raises DataError naming numbers that the table lacks."""
        known = np.array((0, *self.originals), np.int64)
        at = np.searchsorted(known, label_map).clip(max=len(known) - 1)
        wrong = known[at] != label_map
        if wrong.any():
            strangers = np.unique(np.asarray(label_map)[wrong])
            raise DataError(
                f"mask ids {strangers[:5].tolist()} are not among the {len(self)} ids of the scene"
            )
        return at.astype(np.int32)

    def to_original(self, label_map: NDArray[np.integer]) -> NDArray[np.int32]:
        """0, 1..K -> the file's numbers."""
        values = np.array((0, *self.originals), np.int32)
        if label_map.size and (label_map.min() < 0 or label_map.max() >= len(values)):
            raise ValueError(f"compact ids must be within 0..{len(self)}")
        return values[label_map]

    def name(self, compact_id: int) -> str:
        """The object's name, or its number in the files where it has none."""
        original = self.originals[compact_id - 1]
        return self.names.get(original, str(original))

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        record = {
            "format": _TABLE_FORMAT,
            "zero_label": self.zero_label,
            "ids": list(self.originals),
            "names": {str(key): value for key, value in sorted(self.names.items())},
        }
        text = json.dumps(record, indent=1) + "\n"
        atomic_write(path, lambda stream: stream.write(text.encode("utf-8")))

    @classmethod
    def load(cls, path: Path) -> IdTable:
        """Read what `save` wrote. Raises FormatError."""
        record = read_json(path)
        try:
            if record["format"] != _TABLE_FORMAT:
                raise FormatError(f"{path}: format {record['format']!r} is not {_TABLE_FORMAT!r}")
            originals = tuple(int(value) for value in record["ids"])
            names = {int(key): str(value) for key, value in record["names"].items()}
            return cls(originals, names, str(record["zero_label"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path}: not a table of ids ({error})") from error


def read_label_names(path: Path) -> dict[int, str]:
    """`id_to_name` of a labels.json; empty if the file or the key is not there."""
    if not path.is_file():
        return {}
    table = read_json(path).get("id_to_name", {})
    if not isinstance(table, dict):
        raise FormatError(f"{path}: id_to_name must be an object of id: name")
    try:
        return {int(key): str(value) for key, value in table.items()}
    except ValueError as error:
        raise FormatError(f"{path}: id_to_name has a key that is not a number ({error})") from error


def build_id_table(files: Sequence[Path], names: dict[int, str], zero_label: str) -> IdTable:
    """The table over the ids of all these mask files, at the files' own size."""
    union: set[int] = set()
    for path in files:
        union.update(present_ids(read_id_map(path)))
    known = {key: value for key, value in names.items() if key in union}
    return IdTable(tuple(sorted(union)), known, zero_label)
