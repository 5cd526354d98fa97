# SPDX-License-Identifier: Apache-2.0
"""The options of the commands that make synthetic scenes and degrade masks."""

from __future__ import annotations

from dataclasses import dataclass

from arguments.options import (
    OneLineParser,
    add_options,
    option,
    options_of,
    parse_typed,
    require,
    require_at_least,
)

FEWEST_OBJECTS, MOST_OBJECTS = 12, 35  # fewer lack a ring or a stack; for more there is no floor


@dataclass(frozen=True)
class SyntheticParams:
    """One synthetic scene; the same numbers give the same files."""

    output: str  # the scene folder to write
    seed: int = option(0, "another number is another room")
    width: int = option(256, "pixels")
    height: int = option(192, "pixels")
    views: int = option(60, "cameras; every 5th is held out")
    objects: int = option(24, "things besides floor and walls")
    samples: int = option(3, "anti-aliasing rays per pixel side where there is contrast")
    points: int = option(10_000, "noisy points of the COLMAP model")
    degraded: bool = option(
        False, "also object_mask_degraded/: masks as SAM and trackers leave them"
    )
    shuffled: bool = option(False, "also object_mask_shuffled/: fresh ids in every view")
    geometry: bool = option(False, "also depth/ and normal/ as .npz")
    overwrite: bool = option(
        False, "replace images, masks and model in a folder that another program wrote"
    )
    workers: int = option(2, "processes that cast rays")

    def __post_init__(self) -> None:
        require_at_least(self, 16, "width", "height")
        require_at_least(self, 5, "views")
        require_at_least(self, 1, "samples", "points", "workers")
        require_at_least(self, 0, "seed")
        require(
            FEWEST_OBJECTS <= self.objects <= MOST_OBJECTS,
            "objects",
            self.objects,
            f"{FEWEST_OBJECTS} to {MOST_OBJECTS}",
        )


@dataclass(frozen=True)
class MaskFaults:
    """How far masks are from the truth. The defaults are what the method was measured with."""

    boundary: float = option(1.5, "pixels that outlines move, smoothly")
    split_objects: float = option(
        0.25, "share of objects that fall apart, by a line, with a second id"
    )
    split_views: float = option(0.5, "share of the views of such an object in which it does")
    missing: float = option(0.1, "share of the masks of all views that are lost")
    merged: float = option(0.0, "share of masks swallowed by an object that they touch")
    switched: float = option(
        0.07, "share of masks with a wrong id: another object's, or a new one, half each"
    )
    broken: float = option(0.1, "share of objects that get a new id for good from some view on")
    fresh: bool = option(False, "every view numbers its masks anew")

    def __post_init__(self) -> None:
        for field in options_of(type(self)):
            value = getattr(self, field.name)
            top = 100.0 if field.name == "boundary" else 1.0
            require(0.0 <= value <= top, field.name, value, f"0 to {top:g}")


SHUFFLED = MaskFaults(boundary=0, split_objects=0, missing=0, switched=0, broken=0, fresh=True)


@dataclass(frozen=True)
class DegradeParams:
    """Which masks are degraded, and where the copy goes."""

    scene: str  # the scene folder
    object_path: str = option("object_mask", "mask folder to read", short="o")
    target: str = option("object_mask_degraded", "mask folder to write", short="t")
    seed: int = option(0, "another number is another damage")
    overwrite: bool = option(False, "replace a folder that another program wrote")

    def __post_init__(self) -> None:
        require_at_least(self, 0, "seed")


def parse_synthetic_arguments(arguments: list[str] | None = None) -> SyntheticParams:
    """The command line of `make_synthetic_scene.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="make_synthetic_scene.py", description="Ray-cast a furnished room into a scene folder."
    )
    parser.add_argument("output", help="the scene folder to write")
    add_options(parser, SyntheticParams)
    return SyntheticParams(**parse_typed(parser, arguments))


def parse_degrade_arguments(
    arguments: list[str] | None = None,
) -> tuple[DegradeParams, MaskFaults]:
    """The command line of `degrade_masks.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="degrade_masks.py",
        description="Write a copy of a mask folder with the faults of trackers.",
    )
    parser.add_argument("scene", help="the scene folder")
    add_options(parser, DegradeParams)
    add_options(parser.add_argument_group("faults"), MaskFaults)
    typed = parse_typed(parser, arguments)
    faults = {field.name for field in options_of(MaskFaults)}
    return (
        DegradeParams(**{key: value for key, value in typed.items() if key not in faults}),
        MaskFaults(**{key: value for key, value in typed.items() if key in faults}),
    )
