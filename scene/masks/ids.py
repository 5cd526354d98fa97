# SPDX-License-Identifier: Apache-2.0
"""The numbering of the ids of a scene.

Inside the project ids are compact, 1..K; `IdTable` keeps the way back to the file's numbers. Where
masks are colours, the "file's numbers" are those that the table gives to the colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scene.masks.records import LARGEST_ID, NO_TARGET
from utils.errors import FormatError, MaskError
from utils.json_files import read_json
from utils.storage import atomic_write

_TABLE_FORMAT = "iqgs-ids-1"
_GRAY = 0x010101  # times a gray value: the code of that colour

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class IdTable:
    """The ids of a scene: position i holds the file's number of compact id i + 1."""

    originals: tuple[int, ...]  # ascending, without 0
    names: dict[int, str] = field(default_factory=dict)  # by the file's number, where known
    zero_label: str = "background"  # what id 0 means to this run: background | ignore
    ignore_label: int = NO_TARGET  # this number in the files is no target either
    colors: dict[int, int] = field(default_factory=dict)  # number -> 0xRRGGBB, of coloured masks

    def __post_init__(self) -> None:
        values = list(self.originals)
        if values != sorted(set(values)) or (values and values[0] < 1):
            raise ValueError("ids must be ascending, different and positive")
        if self.zero_label not in ("background", "ignore"):
            raise ValueError(f"zero_label is {self.zero_label!r}, not background or ignore")
        if len(set(self.colors.values())) != len(self.colors):
            raise ValueError("two ids have one colour")

    def __len__(self) -> int:
        return len(self.originals)

    def numbers_of(self, values: Numbers, coding: str) -> Numbers:
        """What the values [K] of a file of that coding mean: the file's numbers, -1 = no target.

        Raises MaskError for negative numbers and for colours that the table does not know.
        """
        if coding != "colors":
            return _plain_numbers(values, self.ignore_label)
        if not self.colors:  # gray colours, in all files of the folder
            return _plain_numbers(values & 255, self.ignore_label)
        codes = np.array([0, *self.colors.values()], np.int64)
        order = np.argsort(codes)
        at = order[np.searchsorted(codes, values, sorter=order).clip(max=len(codes) - 1)]
        ignored = values == color_code(self.ignore_label)
        strange = values[(codes[at] != values) & ~ignored]
        if strange.size:
            named = ", ".join(color_name(int(code)) for code in strange[:5])
            raise MaskError(f"mask colours {named} are not among those of the scene", "ids")
        found = np.array([0, *self.colors], np.int64)[at]
        return np.where(ignored, NO_TARGET, found)

    def to_compact(self, label_map: NDArray[np.integer]) -> NDArray[np.int32]:
        """File's numbers -> 0, 1..K; -1 for no target, as is 0 where the run ignores it.

        Raises MaskError naming numbers that the table lacks.
        """
        known = np.array((NO_TARGET, 0, *self.originals), np.int64)
        at = np.searchsorted(known, label_map).clip(max=len(known) - 1)
        wrong = known[at] != label_map
        if wrong.any():
            strangers = np.unique(np.asarray(label_map)[wrong])
            raise MaskError(
                f"mask ids {strangers[:5].tolist()} are not among the {len(self)} ids of the scene",
                "ids",
            )
        compact = (at - 1).astype(np.int32)
        if self.zero_label == "ignore":
            compact[compact == 0] = NO_TARGET
        return compact

    def to_original(self, label_map: NDArray[np.integer]) -> NDArray[np.int32]:
        """0, 1..K -> the file's numbers; -1 stays."""
        values = np.array((0, *self.originals, NO_TARGET), np.int32)
        if label_map.size and (label_map.min() < NO_TARGET or label_map.max() > len(self)):
            raise ValueError(f"compact ids must be within -1..{len(self)}")
        return values[label_map]

    def name(self, compact_id: int) -> str:
        """The object's name, or its number in the files where it has none."""
        original = self.originals[compact_id - 1]
        return self.names.get(original, str(original))

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        record: dict[str, object] = {
            "format": _TABLE_FORMAT,
            "zero_label": self.zero_label,
            "ids": list(self.originals),
            "names": {str(key): value for key, value in sorted(self.names.items())},
        }
        if self.ignore_label != NO_TARGET:
            record["ignore_label"] = self.ignore_label
        if self.colors:
            record["colors"] = {str(key): color_name(code) for key, code in self.colors.items()}
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
            colors = {int(key): parse_color(v) for key, v in record.get("colors", {}).items()}
            ignored = int(record.get("ignore_label", NO_TARGET))
            return cls(originals, names, str(record["zero_label"]), ignored, colors)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path}: not a table of ids ({error})") from error


def _plain_numbers(values: Numbers, ignore_label: int) -> Numbers:
    numbers = np.where(values == ignore_label, NO_TARGET, values)
    if numbers.size and (numbers.min() < NO_TARGET or numbers.max() > LARGEST_ID):
        wrong = int(numbers.min() if numbers.min() < NO_TARGET else numbers.max())
        raise MaskError(
            f"id {wrong} is not within 0..{LARGEST_ID} (-1 means no target)"
            f"; if it means no target too, pass --ignore_label {wrong}",
            "ids",
        )
    return numbers


def color_code(ignore_label: int) -> int:
    """The colour of `--ignore_label` in coloured masks: up to 255 a gray value, above 0xRRGGBB."""
    return ignore_label * _GRAY if 0 <= ignore_label <= 255 else ignore_label


def color_name(code: int) -> str:
    """#rrggbb of 0xRRGGBB."""
    return f"#{code:06x}"


def parse_color(text: str) -> int:
    """0xRRGGBB of "#rrggbb" or "r,g,b"; ValueError for anything else."""
    if text.startswith("#") and len(text) == 7:
        return int(text[1:], 16)
    channels = [int(part) for part in text.split(",")]
    if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
        raise ValueError(f"{text!r} is no colour")
    return channels[0] << 16 | channels[1] << 8 | channels[2]


def numbered_colors(
    codes: Iterable[int], known: Mapping[int, int], ignore_label: int
) -> dict[int, int]:
    """Numbers for colours: those known keep theirs, others follow in the order of their codes.

    Black, 0, and the ignored colour have none. The same set of colours gives the same numbers.
    """
    unnumbered = {0, color_code(ignore_label), *known.values()}
    first = max(known, default=0) + 1
    new = sorted(set(codes) - unnumbered)
    return {**known, **dict(enumerate(new, first))}


def read_label_names(path: Path, colors: Mapping[int, int] | None = None) -> dict[int, str]:
    """`id_to_name` of a labels.json; empty if the file or the key is not there.

    Keys are numbers or, for masks whose numbers stand for `colors`, "#rrggbb" or "r,g,b".
    """
    if not path.is_file():
        return {}
    table = read_json(path).get("id_to_name", {})
    if not isinstance(table, dict):
        raise FormatError(f"{path}: id_to_name must be an object of id: name")
    number_of = {code: number for number, code in (colors or {}).items()}
    names = {}
    try:
        for key, value in table.items():
            if key.startswith("#") or "," in key:
                names[number_of.get(parse_color(key), 0)] = str(value)
            else:
                names[int(key)] = str(value)
    except ValueError as error:
        raise FormatError(f"{path}: id_to_name has a key that is no id ({error})") from error
    return {number: name for number, name in names.items() if number}
