# SPDX-License-Identifier: Apache-2.0
"""Instance masks of a view, the files they come from, and the numbering of the ids.

A mask file is an id map: 0 = no instance, any other value = one instance, the same in all views.
Inside the project ids are compact, 1..K; `IdTable` keeps the way back to the file's numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scene.cameras import Camera
from utils.errors import DataError, FormatError
from utils.images import id_map_size, read_id_map, resize_id_map
from utils.storage import atomic_write

# A mask whose shape differs by more belongs to another image (a one-pixel rounding does not).
MAX_ASPECT_ERROR = 0.01
_MAX_LABELS_BYTES = 10_000_000
_TABLE_FORMAT = "iqgs-ids-1"


@dataclass(frozen=True, eq=False)
class InstanceMasks:
    """All masks of one view in one map."""

    label_map: NDArray[np.int32]  # [H, W], 0 = no instance
    ids: tuple[int, ...]  # those present, ascending, without 0

    @classmethod
    def from_label_map(cls, label_map: NDArray[np.int32]) -> InstanceMasks:
        """Masks of a map, with its ids looked up."""
        return cls(label_map=label_map, ids=present_ids(label_map))


def present_ids(label_map: NDArray[np.int32]) -> tuple[int, ...]:
    """The nonzero values of an id map, ascending."""
    top = int(label_map.max()) if label_map.size else 0
    # Counting is some thirty times faster than sorting, as long as the ids are small.
    if top < 1 << 20:
        found = np.flatnonzero(np.bincount(label_map.ravel()))
    else:
        found = np.unique(label_map)
    return tuple(int(value) for value in found if value)


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the scene. Raises DataError, FormatError."""
    try:
        if path.stat().st_size > _MAX_LABELS_BYTES:
            raise FormatError(f"{path}: larger than {_MAX_LABELS_BYTES} bytes")
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise FormatError(f"{path}: expected a JSON object")
    return record


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


def find_mask_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Mask file of each image that has one: `<folder>/<image name without its last suffix>.png`.

    Also accepted: the name cut at its first dot, and the name without its sub-folder (both as
    Gaussian Grouping writes them). Raises DataError naming two images that share a mask file.
    """
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        path = next((p for p in _mask_candidates(folder, name) if p.is_file()), None)
        if path is None:
            continue
        if path in owners:
            raise DataError(
                f"{path}: images {owners[path]!r} and {name!r} would both use this mask; "
                "keep the sub-folders of the images in the mask folder"
            )
        owners[path] = name
        found[name] = path
    return found


def _mask_candidates(folder: Path, name: str) -> list[Path]:
    path = PurePosixPath(name)
    first_dot = path.name.split(".")[0] or path.stem
    return [
        folder / path.parent / f"{path.stem}.png",
        folder / path.parent / f"{first_dot}.png",
        folder / f"{path.stem}.png",
        folder / f"{first_dot}.png",
    ]


def check_mask_shape(path: Path, camera: Camera) -> None:
    """DataError if the mask file's aspect ratio is not that of the camera's image."""
    width, height = id_map_size(path)
    error = abs((width * camera.height) / (height * camera.width) - 1)
    expected = camera.height * width / camera.width
    if error > MAX_ASPECT_ERROR and abs(expected - height) > 1:
        raise DataError(
            f"{path}: the mask has {width}x{height} pixels but image {camera.name!r} is rendered "
            f"with {camera.width}x{camera.height}; the aspect ratios differ by {error:.1%}"
        )


def read_masks(path: Path, camera: Camera, table: IdTable | None) -> InstanceMasks:
    """The masks of a file at the camera's size; ids compact if a table is given, else as filed."""
    check_mask_shape(path, camera)
    ids = resize_id_map(read_id_map(path), camera.width, camera.height)
    return InstanceMasks.from_label_map(ids if table is None else table.to_compact(ids))


def build_id_table(files: Sequence[Path], names: dict[int, str], zero_label: str) -> IdTable:
    """The table over the ids of all these mask files, at the files' own size."""
    union: set[int] = set()
    for path in files:
        union.update(present_ids(read_id_map(path)))
    known = {key: value for key, value in names.items() if key in union}
    return IdTable(tuple(sorted(union)), known, zero_label)
