# SPDX-License-Identifier: Apache-2.0
"""Edits as records, and as lines of JSON. What they do to splats is in `applying`.

Everything that an edit needs stands in its record: numbers of new objects and centres of turns are
decided when it is made, so that replaying it gives the same splats.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Vector = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float]  # least x y z, largest x y z
Numbers = tuple[int, ...]

NOWHERE: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Motion:
    """x' = scale * R (x - center) + center + by; R turns `degrees` about `axis` (right hand)."""

    center: Vector
    by: Vector = NOWHERE
    axis: Vector = (0.0, 0.0, 1.0)
    degrees: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"a scale is positive, got {self.scale}")
        if not math.hypot(*self.axis) > 0:
            raise ValueError("an axis has a length")


@dataclass(frozen=True)
class Remove:
    """Delete the splats of objects; with `hull` all splats inside the convex hull of each."""

    objects: Numbers
    hull: bool = False


@dataclass(frozen=True)
class Isolate:
    """Delete everything else."""

    objects: Numbers


@dataclass(frozen=True)
class Recolor:
    """Give objects a mean colour (RGB in 0..1) under the light and shade that they have."""

    objects: Numbers
    color: Vector


@dataclass(frozen=True)
class Move:
    """Move, turn and scale objects."""

    objects: Numbers
    motion: Motion


@dataclass(frozen=True)
class Copy:
    """Copies of objects under new numbers, moved; the originals stay."""

    objects: Numbers
    numbers: Numbers  # of the copies, one an object
    motion: Motion


@dataclass(frozen=True)
class Merge:
    """Several objects become one."""

    objects: Numbers
    into: int


@dataclass(frozen=True)
class Split:
    """One object becomes several: what lies in `box`, or beyond `plane` (a point and a normal),
    gets the one new number; with neither, each connected piece but the largest gets its own.

    Object 0 may be split: its splats belong to no object yet.
    """

    object: int
    numbers: Numbers
    box: Box | None = None
    plane: Box | None = None


@dataclass(frozen=True)
class Name:
    """Call an object something; an empty name takes its name away."""

    object: int
    name: str


@dataclass(frozen=True)
class Clean:
    """Relabel and split splats as a file of decisions says (see `cleaning`)."""

    file: str  # edits/clean-<12 hexadecimal digits>.npz in the run folder
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"edits/clean-[0-9a-f]{12}\.npz", self.file):
            raise ValueError(f"{self.file!r} is no file of a cleaning")


Edit = Remove | Isolate | Recolor | Move | Copy | Merge | Split | Name | Clean
KINDS: Mapping[str, type[Any]] = {kind.__name__.lower(): kind for kind in typing.get_args(Edit)}


def to_record(edit: Edit) -> dict[str, Any]:
    """An edit as plain JSON values."""
    return {"edit": type(edit).__name__.lower(), **dataclasses.asdict(edit)}


def from_record(record: Mapping[str, Any]) -> Edit:
    """The edit of what `to_record` gave. ValueError, in words, for anything else."""
    kind = KINDS.get(str(record.get("edit")))
    if kind is None:
        raise ValueError(f"{record.get('edit')!r} is none of the edits {', '.join(KINDS)}")
    edit: Edit = _built(kind, {key: value for key, value in record.items() if key != "edit"})
    return edit


def _built(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A record of `kind`, each value checked against the type of its field."""
    hints = typing.get_type_hints(kind)
    needed = {
        field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING
    }
    if not needed <= values.keys() or not values.keys() <= hints.keys():
        raise ValueError(f"{kind.__name__.lower()} has {', '.join(hints)}; got {sorted(values)}")
    return kind(**{key: _value(hints[key], value, key) for key, value in values.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    """`value` as the type that a field has."""
    choices = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return None if value is None else _value(choices[0], value, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _built(hint, value)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        kind, count = choices[0], None if choices[-1] is Ellipsis else len(choices)
        if count is None or count == len(value):
            return tuple(_value(kind, entry, key) for entry in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number):
            return number
    if hint in (int, str, bool) and type(value) is hint and (hint is not int or value >= 0):
        return value
    raise ValueError(f"{key!r} cannot be {value!r}")
