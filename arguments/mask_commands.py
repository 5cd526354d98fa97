# SPDX-License-Identifier: Apache-2.0
"""The command lines that make, join, check and convert the masks of a scene."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arguments.groups import ModelParams
from arguments.masks import (
    CheckParams,
    GridParams,
    MergeParams,
    PrepareParams,
    ProposalParams,
    TrackParams,
    layers_folder,
)
from arguments.options import OneLineParser, add_options, options_of, parse_typed, require


@dataclass(frozen=True)
class GenerationParams:
    """Everything that `generate_masks.py` is told."""

    scene: ModelParams
    proposals: ProposalParams
    grid: GridParams
    merging: MergeParams
    tracking: TrackParams

    def settings(self) -> dict[str, dict[str, Any]]:
        """What the masks depend on, by group."""
        scene, proposals = dataclasses.asdict(self.scene), dataclasses.asdict(self.proposals)
        proposals["checkpoint"] = Path(self.proposals.checkpoint).name  # it may lie elsewhere now
        record = {
            "scene": {key: scene[key] for key in ("images", "resolution")},
            "proposals": {key: value for key, value in proposals.items() if key not in _FREE},
            "merging": dataclasses.asdict(self.merging),
        }
        if self.proposals.method != "command":
            record["grid"] = dataclasses.asdict(self.grid)
        if self.proposals.video:
            record["tracking"] = dataclasses.asdict(self.tracking)
        return record


# Settings that change no mask.
_FREE = (
    *("object_path", "only", "device", "threads", "overwrite", "quiet"),
    *("contact_sheet", "allow_download", "command_timeout"),
)
# Those of the scene that tell where its photographs are, and how its masks are read.
_PHOTOGRAPHS = ("source_path", "images", "sparse", "pair_by_order", "resolution", "skip_missing")
_READING = ("object_path", "mask_orientation", "zero_label", "ignore_label")
_SPLIT = ("eval", "train_split", "n_views")
_GROUPS = {
    "points": (GridParams, "how sam, sam2 and sam3 are asked for all masks"),
    "merging": (MergeParams, "how proposals become one id for each pixel"),
    "video": (TrackParams, "how --video follows objects"),
}
_GENERATION = (ProposalParams, GridParams, MergeParams, TrackParams)


def _add_scene(parser: OneLineParser, wanted: tuple[str, ...]) -> None:
    """These options of ModelParams, which mean what they mean to train.py."""
    others = {field.name for field in options_of(ModelParams)} - set(wanted)
    words = "where photographs and masks are, as train.py has it"
    add_options(parser.add_argument_group("scene", words), ModelParams, leave_out=others)


def _add_generation(parser: OneLineParser, *own: type) -> None:
    """The options of `own`, and all those of making proposals."""
    for record in own:
        add_options(parser, record)
    _add_scene(parser, _PHOTOGRAPHS)
    for title, (record, words) in _GROUPS.items():
        add_options(parser.add_argument_group(title, words), record)


def _records(typed: dict[str, Any], *records: type) -> list[Any]:
    """One record of each type from what was typed."""
    names = [{field.name for field in options_of(record)} for record in records]
    return [
        record(**{key: value for key, value in typed.items() if key in own})
        for record, own in zip(records, names, strict=True)
    ]


def _scene(typed: dict[str, Any], leave_out: tuple[str, ...] = ()) -> ModelParams:
    kept = {key: value for key, value in typed.items() if key not in leave_out}
    scene: ModelParams = _records(kept, ModelParams)[0]
    require(bool(scene.source_path), "source_path (-s)", "", "the scene folder")
    return scene


def parse_generation_arguments(arguments: list[str] | None = None) -> GenerationParams:
    """The command line of `generate_masks.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="generate_masks.py",
        description="Propose masks for the photographs of a scene with a model of the SAM family "
        "or any other program.",
    )
    _add_generation(parser, ProposalParams)
    typed = parse_typed(parser, arguments)
    return GenerationParams(_scene(typed, ("object_path",)), *_records(typed, *_GENERATION))


def parse_prepare_arguments(
    arguments: list[str] | None = None,
) -> tuple[PrepareParams, GenerationParams]:
    """The command line of `prepare_masks.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="prepare_masks.py",
        description="From photographs to masks that training can use: propose, join over all "
        "views, check.",
    )
    _add_generation(parser, PrepareParams, ProposalParams)
    typed = parse_typed(parser, arguments)
    scene = _scene(typed, ("object_path",))
    prepare, *rest = _records(typed, PrepareParams, *_GENERATION)
    generation = GenerationParams(scene, *rest)
    proposals = generation.proposals.object_path
    others = (proposals, layers_folder(proposals))
    require(prepare.target not in others, "target", prepare.target, "a folder of its own")
    return prepare, generation


def parse_check_arguments(arguments: list[str] | None = None) -> tuple[CheckParams, ModelParams]:
    """The command line of `check_masks.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="check_masks.py",
        description="Report everything that is wrong with the masks of a scene, import the export "
        "of an annotation tool, convert masks to what training reads.",
    )
    add_options(parser, CheckParams)
    _add_scene(parser, _PHOTOGRAPHS + _READING + _SPLIT)
    typed = parse_typed(parser, arguments)
    check: CheckParams = _records(typed, CheckParams)[0]
    return check, _scene(typed)
