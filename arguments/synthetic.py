# SPDX-License-Identifier: Apache-2.0
"""The options of the doors that make synthetic scenes and degrade masks."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from arguments.parser import OneLineParser
from utils.errors import UserError

FEWEST_OBJECTS, MOST_OBJECTS = 12, 35  # fewer lack a ring or a stack; for more there is no floor


@dataclass(frozen=True)
class SyntheticParams:
    """One synthetic scene; the same numbers give the same files."""

    output: str
    seed: int = 0
    width: int = 256
    height: int = 192
    views: int = 60
    objects: int = 24  # besides floor and walls
    samples: int = 3  # rays per pixel and direction where there is contrast
    points: int = 10_000  # noisy points of the COLMAP model
    degraded: bool = False
    shuffled: bool = False
    geometry: bool = False
    overwrite: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        for name, low in (
            ("width", 16),
            ("height", 16),
            ("views", 5),
            ("samples", 1),
            ("points", 1),
            ("workers", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise UserError(f"--{name} must be at least {low}, got {getattr(self, name)}")
        if not FEWEST_OBJECTS <= self.objects <= MOST_OBJECTS:
            raise UserError(
                f"--objects must be {FEWEST_OBJECTS} to {MOST_OBJECTS}, got {self.objects}"
            )


@dataclass(frozen=True)
class MaskKnobs:
    """How far masks are from the truth. The defaults are what the method was measured with.

    Rates are shares of objects, or of (view, object) pairs, as the comments say.
    """

    boundary: float = 1.5  # pixels that outlines move, smoothly
    split_objects: float = 0.25  # objects that fall apart, by a line, with a second id
    split_views: float = 0.5  # of the views of such an object
    missing: float = 0.1  # (view, object): no mask
    merged: float = 0.0  # (view, object): swallowed by an object that it touches
    switched: float = 0.07  # (view, object): another object's id, or a new one, half each
    broken: float = 0.1  # objects: a new id for good from some view on
    fresh: bool = False  # every view numbers its masks anew

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            top = 100.0 if field.name == "boundary" else 1.0
            if not 0.0 <= value <= top:
                raise UserError(f"--{field.name} must be 0 to {top:g}, got {value}")


SHUFFLED = MaskKnobs(boundary=0, split_objects=0, missing=0, switched=0, broken=0, fresh=True)


def parse_synthetic_arguments(arguments: list[str] | None = None) -> SyntheticParams:
    """The command line of `make_synthetic_scene.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="make_synthetic_scene.py", description="Ray-cast a furnished room into a scene folder."
    )
    parser.add_argument("output", help="the scene folder to write")
    words = {
        "seed": "another number is another room",
        "width": "pixels",
        "height": "pixels",
        "views": "cameras; every 5th is held out",
        "objects": "things besides floor and walls",
        "samples": "anti-aliasing rays per pixel side",
        "points": "noisy points of the COLMAP model",
        "workers": "processes that cast rays",
        "degraded": "also object_mask_degraded/: masks as SAM and trackers leave them",
        "shuffled": "also object_mask_shuffled/: fresh ids in every view",
        "geometry": "also depth/ and normal/ as .npz",
        "overwrite": "replace images, masks and model in a folder that another program wrote",
    }
    _add(parser, SyntheticParams, words)
    return SyntheticParams(**vars(parser.parse_args(arguments)))


def parse_degrade_arguments(
    arguments: list[str] | None = None,
) -> tuple[argparse.Namespace, MaskKnobs]:
    """The command line of `degrade_masks.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="degrade_masks.py",
        description="Write a copy of a mask folder with the faults of trackers.",
    )
    parser.add_argument("scene", help="the scene folder")
    parser.add_argument("-o", "--object_path", default="object_mask", help="mask folder to read")
    parser.add_argument(
        "-t", "--target", default="object_mask_degraded", help="mask folder to write"
    )
    parser.add_argument("--seed", type=int, default=0, help="another number is another damage")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a folder that another program wrote"
    )
    words = {
        "boundary": "pixels that outlines move",
        "split_objects": "share of objects that fall apart",
        "split_views": "share of their views in which they do",
        "missing": "share of masks lost",
        "merged": "share of masks swallowed by a neighbour",
        "switched": "share of masks with a wrong id",
        "broken": "share of objects that get a new id for good",
        "fresh": "new ids in every view",
    }
    _add(parser, MaskKnobs, words)
    given = parser.parse_args(arguments)
    if given.seed < 0:
        raise UserError(f"--seed must be at least 0, got {given.seed}")
    return given, MaskKnobs(**{name: getattr(given, name) for name in words})


def _add(parser: argparse.ArgumentParser, record: type, words: dict[str, str]) -> None:
    """One flag per word, with the type and the default of the dataclass field of that name."""
    for field in fields(record):
        if field.name not in words:
            continue
        text = words[field.name]
        if field.default is False:
            parser.add_argument(f"--{field.name}", action="store_true", help=text)
        else:
            parser.add_argument(
                f"--{field.name}",
                type=type(field.default),
                default=field.default,
                help=f"{text} (default %(default)s)",
            )
