# SPDX-License-Identifier: Apache-2.0
"""From photographs to masks to train on: propose, join over all views, check."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from arguments import ModelParams
from arguments.association import AssociationOptions, AssociationParams
from arguments.mask_commands import GenerationParams
from arguments.masks import CheckParams, PrepareParams
from iqgs.engine.association_run import AssociationResult, associate_scene
from iqgs.preparation.mask_check import MaskReport, check_masks
from iqgs.preparation.proposals import make_proposer
from iqgs.preparation.proposals.generation import generate_masks
from iqgs.preparation.scene_images import has_poses, scene_images
from scene.masks import match_mask_files, read_about
from scene.readers.photo_files import listed
from utils.errors import UserError
from utils.reproducibility import set_threads

logger = logging.getLogger(__name__)

Propose = Callable[[GenerationParams], Path]
Associate = Callable[[AssociationParams], AssociationResult]


def torch_device(wanted: str) -> torch.device:
    """`auto` takes a GPU where torch has one; the rasterizer is not asked. UserError for `cuda`
    where there is none."""
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise UserError("--device cuda cannot be used: torch sees no GPU; use --device cpu")
    return torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")


def propose_masks(params: GenerationParams) -> Path:
    """`generate_masks.py`: the folder of the id maps. Raises UserError, DataError, RunError."""
    device = torch_device(params.proposals.device)
    set_threads(params.proposals.threads)
    return generate_masks(params, lambda: make_proposer(params, device))


@dataclass(frozen=True)
class PreparedMasks:
    """Masks, and what there is to say about them."""

    folder: str  # sub-folder of the scene
    association: AssociationResult | None
    report: MaskReport

    def lines(self, verbose: bool) -> list[str]:
        """What a person should read."""
        said = [] if self.association is None else self.association.lines()[:-1]
        return [*said, *self.report.lines(verbose), f"to train on them: train.py -o {self.folder}"]


def prepare_masks(
    prepare: PrepareParams,
    generation: GenerationParams,
    propose: Propose = propose_masks,
    associate: Associate = associate_scene,
) -> PreparedMasks:
    """`prepare_masks.py`: proposals where there are none, joined over all views, and checked.

    Masks of another program in the folder of proposals are taken as they are. Raises UserError,
    DataError, RunError; what is finished by then stays and is not done again.
    """
    scene, chosen = generation.scene, generation.proposals
    source = Path(scene.source_path)
    if prepare.associate:  # before hours are spent
        _check_target(source / prepare.target, chosen.overwrite)
        _check_poses(scene)
    if chosen.overwrite or (prepare.generate and _lacks_masks(generation)):
        propose(generation)
    result = None
    folder = chosen.object_path
    if prepare.associate:
        result = associate(_association(prepare, generation))
        folder = prepare.target
    report = check_masks(CheckParams(), replace(scene, object_path=folder))
    return PreparedMasks(folder, result, report)


def _check_target(target: Path, overwrite: bool) -> None:
    """Masks that somebody else made are not replaced unasked; those of an earlier call are."""
    if overwrite or not target.is_dir() or not any(target.iterdir()):
        return
    record = read_about(target)
    if record is None or record.get("made by") not in ("prepare_masks", "associate_masks"):
        raise UserError(
            f"{target}: holds masks already; name another folder with --target, or look at them "
            "with check_masks.py"
        )


def _check_poses(scene: ModelParams) -> None:
    if Path(scene.source_path).is_dir() and not has_poses(scene):
        raise UserError(
            f"{scene.source_path}: masks of different views cannot be joined without poses; run "
            "scripts/convert.py first, or pass --no-associate"
        )


def _lacks_masks(generation: GenerationParams) -> bool:
    """Whether proposals are to be made: never beside those of another program."""
    notices: list[str] = []
    names = [image.camera.name for image in scene_images(generation.scene, notices)]
    folder = Path(generation.scene.source_path) / generation.proposals.object_path
    files = match_mask_files(folder, names)
    missing = [name for name in names if name not in files.chosen]
    if not files.chosen or not missing:
        return bool(missing)
    if read_about(folder) is not None:
        return True
    logger.info(
        "%s: the masks of another program, none for %d of %d photographs: %s",
        folder,
        len(missing),
        len(names),
        listed(missing),
    )
    return False


def _association(prepare: PrepareParams, generation: GenerationParams) -> AssociationParams:
    """What the association is asked for."""
    chosen, source = generation.proposals, Path(generation.scene.source_path)
    record = read_about(source / chosen.object_path)
    fresh = record is not None and record["numbering"] == "view"
    options = AssociationOptions(
        splats=prepare.splats,
        output=str(source / prepare.target),
        start="graph" if fresh else "auto",
        device=chosen.device,
        threads=chosen.threads,
        overwrite=True,  # what must not be replaced has been refused
        quiet=chosen.quiet,
    )
    scene = replace(generation.scene, object_path=chosen.object_path, data_cache=False)
    return AssociationParams(scene, options)
