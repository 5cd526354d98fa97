# SPDX-License-Identifier: Apache-2.0
"""The command line of `edit.py`: a record for each of its sub-commands."""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import dataclass
from typing import Any

from arguments.levels import LevelParams
from arguments.opening import OpeningParams
from arguments.options import OneLineParser, add_options, option, parse_typed, require

INSTANCE_OPACITY = (
    "with --clean, or after it: splats are as opaque in the file as they are surely the object's"
)
COLOR_RULE = "#rrggbb, or R,G,B in 0..255"
SCALES = (1e-3, 1e3)  # of one move
_NUMBERS = re.compile(r"-[\d.][^ ]*,.*")  # argparse takes -1,0,2 for a flag


@dataclass(frozen=True)
class RunParams(OpeningParams):
    """A run."""

    model_path: str = option("", "run folder", short="m")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")


@dataclass(frozen=True)
class ListParams(RunParams, LevelParams):
    """`list`."""

    previews: bool = option(True, "also a picture of each object, and a sheet of all")


@dataclass(frozen=True)
class CleaningParams(RunParams):
    """How splats that no view shows, or that cross a boundary, are found and cut."""

    views: int = option(60, "of --clean: training views at most, evenly spread, to judge splats by")
    rounds: int = option(2, "of --clean: how often a splat across a boundary may be cut in two")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.views >= 1, "views", self.views, "at least 1")
        require(0 <= self.rounds <= 8, "rounds", self.rounds, "within 0..8")


@dataclass(frozen=True)
class CleanParams(CleaningParams):
    """`clean`."""

    score: bool = option(True, "compare objects with the scene's masks, where it is there")
    score_views: int = option(12, "held-out views at most, evenly spread, to compare in")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.score_views >= 1, "score_views", self.score_views, "at least 1")


@dataclass(frozen=True)
class SelectionParams(CleaningParams):
    """Which objects a sub-command is about."""

    id: tuple[str, ...] = option((), "objects, by number or name")
    pixel: str = option("", "X,Y (whole numbers from 0, right and down): the object seen there")
    view: str = option("", "the view of --pixel: the name of a photograph, with or without suffix")
    box: str = option(
        "",
        "xmin,ymin,zmin,xmax,ymax,zmax in the run's coordinates (those of objects.json): objects "
        "with more than half of their splats in it",
    )
    clean: bool = option(False, "clean boundaries and hidden splats first, as `clean` does")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            bool(self.id) or bool(self.pixel) or bool(self.box),
            "id",
            "nothing",
            "given, or --pixel with --view, or --box",
        )
        require(bool(self.pixel) == bool(self.view), "pixel", self.pixel, "given with --view")
        if self.pixel:
            whole = bool(re.fullmatch(r"\d{1,6},\d{1,6}", self.pixel))
            require(whole, "pixel", self.pixel, "two whole numbers X,Y")
        if self.box:
            _check_box(self.box)


@dataclass(frozen=True)
class OutputParams(SelectionParams, LevelParams):
    """`extract`."""

    output: str = option(
        "", "file to write, or a folder for several objects; empty: RUN/objects/ID.ply", short="o"
    )
    instance_opacity: bool = option(False, INSTANCE_OPACITY)


@dataclass(frozen=True)
class ExtractAllParams(CleaningParams, LevelParams):
    """`extract-all`."""

    output: str = option("", "folder to write; empty: RUN/objects", short="o")
    previews: bool = option(False, "also what list writes: objects.json and a picture of each")
    instance_opacity: bool = option(False, INSTANCE_OPACITY)
    clean: bool = option(False, "clean boundaries and hidden splats first, as `clean` does")


@dataclass(frozen=True)
class RemoveParams(SelectionParams):
    """`remove`."""

    hull: bool = option(
        False, "also delete every splat, of whatever object, inside the convex hull of each"
    )


@dataclass(frozen=True)
class RecolorParams(SelectionParams):
    """`recolor`."""

    color: str = option("", COLOR_RULE)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.color), "color", "", COLOR_RULE)
        _ = self.rgb

    @property
    def rgb(self) -> tuple[float, float, float]:
        """The colour in 0..1."""
        match = re.fullmatch(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", self.color)
        if match:
            r, g, b = (float(int(part, 16)) for part in match.groups())
        else:
            listed = bool(re.fullmatch(r"[\d.]+,[\d.]+,[\d.]+", self.color))
            require(listed, "color", self.color, COLOR_RULE)
            r, g, b = numbers("color", self.color, 3)
        known = all(0 <= value <= 255 for value in (r, g, b))
        require(known, "color", self.color, COLOR_RULE)
        return (r / 255, g / 255, b / 255)


@dataclass(frozen=True)
class MoveParams(SelectionParams):
    """`move` and `copy`."""

    by: str = option("0,0,0", "x,y,z in the run's coordinates")
    degrees: float = option(0.0, "turn so far about --axis through the middle of each object")
    axis: str = option("up", "x,y,z; up: the scene's, or z where it is unknown")
    scale: float = option(1.0, "size, from the middle of each object")

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers("by", self.by, 3)
        if self.axis != "up":
            require(any(numbers("axis", self.axis, 3)), "axis", self.axis, "up, or x,y,z")
        require(math.isfinite(self.degrees), "degrees", self.degrees, "a number")
        low, high = SCALES
        require(low <= self.scale <= high, "scale", self.scale, f"within {low:g}..{high:g}")


@dataclass(frozen=True)
class MergeParams(SelectionParams):
    """`merge`."""

    into: str = option("", "the number or name that all get; empty: that of the first --id")


@dataclass(frozen=True)
class SplitParams(RunParams):
    """`split`."""

    id: str = option("", "the object, by number or name; 0: the splats of no object")
    box: str = option("", "xmin,ymin,zmin,xmax,ymax,zmax: what lies in it becomes an object")
    plane: str = option("", "x,y,z,nx,ny,nz: what lies where the normal points becomes an object")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.id), "id", "", "an object's number or name")
        require(not (self.box and self.plane), "plane", self.plane, "given without --box")
        if self.box:
            _check_box(self.box)
        if self.plane:
            normal = numbers("plane", self.plane, 6)[3:]
            require(any(normal), "plane", self.plane, "x,y,z,nx,ny,nz with a normal that is not 0")
        if self.id == "0":
            require(bool(self.box or self.plane), "id", "0", "given with --box or --plane")


@dataclass(frozen=True)
class PartsParams(RunParams):
    """`parts`."""

    id: str = option("", "the object, by number or name")
    count: int = option(4, "parts at most")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.id), "id", "", "an object's number or name")
        require(2 <= self.count <= 100, "count", self.count, "within 2..100")


@dataclass(frozen=True)
class NameParams(SelectionParams):
    """`name`."""

    name: str = option("", "what it is called from now on; empty: nothing")


COMMANDS: dict[str, tuple[type[RunParams], str]] = {
    "list": (ListParams, "a table of the objects, objects.json, a picture of each and a sheet"),
    "extract": (OutputParams, "write objects as PLY files (--id all: as extract-all)"),
    "extract-all": (ExtractAllParams, "write every object and the rest: together the whole scene"),
    "remove": (RemoveParams, "delete objects"),
    "isolate": (SelectionParams, "delete everything else"),
    "recolor": (RecolorParams, "give objects another colour, with the shade that they have"),
    "move": (MoveParams, "move, turn and scale objects"),
    "copy": (MoveParams, "the same with copies that get new numbers"),
    "merge": (MergeParams, "make one object of several"),
    "split": (SplitParams, "make several objects of one: its connected pieces, or by box or plane"),
    "parts": (PartsParams, "tell parts of an object apart; it stays the whole of them"),
    "name": (NameParams, "call an object something"),
    "clean": (CleanParams, "cut splats at boundaries and set hidden ones aside"),
    "undo": (RunParams, "take the last edit back"),
    "redo": (RunParams, "make it again"),
    "log": (RunParams, "the edits so far"),
}


def parse_edit_arguments(arguments: list[str] | None = None) -> tuple[str, RunParams]:
    """The sub-command of `edit.py` and its options. A wrong command line is a `UserError`."""
    parser = OneLineParser(
        prog="edit.py",
        description="List, cut out and edit the objects of a run. Edits are lines of "
        "RUN/edits.jsonl; the trained splats are never changed.",
    )
    added = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (record, words) in COMMANDS.items():
        own = added.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        add_options(own, record)
    typed = _parsed(parser, sys.argv[1:] if arguments is None else arguments)
    command = typed.pop("command")
    record = COMMANDS[command][0]
    return command, record(**typed)


def numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    """So many finite numbers with commas between. UserError that names the flag."""
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    fits = len(found) == count and all(map(math.isfinite, found))
    require(fits, flag, text, f"{count} numbers with commas between")
    return found


def _check_box(text: str) -> None:
    low, high = numbers("box", text, 6)[:3], numbers("box", text, 6)[3:]
    rule = "xmin,ymin,zmin,xmax,ymax,zmax with each least value below the largest"
    require(all(a < b for a, b in zip(low, high, strict=True)), "box", text, rule)


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    """`parse_typed` that lets -1,0,2 be the value of the flag before it."""
    glued: list[str] = []
    for word in arguments:
        if glued and glued[-1].startswith("--") and _NUMBERS.fullmatch(word):
            glued[-1] += f"={word}"
        else:
            glued.append(word)
    return parse_typed(parser, glued)
