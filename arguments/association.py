# SPDX-License-Identifier: Apache-2.0
"""The command line that makes masks of different views agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

from arguments.groups import ModelParams
from arguments.options import (
    OneLineParser,
    add_options,
    option,
    options_of,
    parse_typed,
    require,
    require_at_least,
)

READING = (
    *("source_path", "images", "sparse", "pair_by_order", "object_path", "resolution"),
    *("mask_orientation", "skip_missing", "zero_label", "ignore_label"),
)


@dataclass(frozen=True)
class AssociationOptions:
    """How identities are found, and where the masks go."""

    splats: str = option(
        "", "PLY of Gaussians of the scene (2DGS or 3DGS); empty: the points of its COLMAP model"
    )
    output: str = option("", "folder to write; empty: SCENE/<object_path>_associated")
    start: str = option(
        "auto",
        "given: by the ids of the masks; graph: as if they had none; auto: given, unless the views "
        "contradict most of them",
        choices=("auto", "given", "graph"),
    )
    width: int = option(512, "pixels of the longer side at which splats are weighed")
    gt_path: str = option("", "true masks, a sub-folder of the scene: IDF1 and HOTA against them")
    sheet_views: int = option(10, "views of every object on the contact sheet; 0: no sheet")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "CPU threads; 0: all")
    overwrite: bool = option(False, "replace the folder where it is there")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self) -> None:
        require_at_least(self, 16, "width")
        require_at_least(self, 0, "threads", "sheet_views")


@dataclass(frozen=True)
class AssociationParams:
    """Everything that `associate_masks.py` is told."""

    scene: ModelParams
    options: AssociationOptions


def parse_association_arguments(arguments: list[str] | None = None) -> AssociationParams:
    """The command line of `associate_masks.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="associate_masks.py",
        description="Find out which masks of different views show the same object, in 3D, and "
        "write masks with one id for each object.",
    )
    add_options(parser, AssociationOptions)
    others = {field.name for field in options_of(ModelParams)} - set(READING)
    words = "where photographs and masks are, as train.py has it"
    add_options(parser.add_argument_group("scene", words), ModelParams, leave_out=others)
    typed = parse_typed(parser, arguments)
    scene = ModelParams(**{key: value for key, value in typed.items() if key in READING})
    require(bool(scene.source_path), "source_path (-s)", "", "the scene folder")
    own = AssociationOptions(**{key: value for key, value in typed.items() if key not in READING})
    return AssociationParams(replace(scene, data_cache=False), own)
