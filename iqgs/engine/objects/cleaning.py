# SPDX-License-Identifier: Apache-2.0
"""Objects of a run cleaned by its own training views; no photograph is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arguments.editing import CleaningParams
from diff_surfel_rasterization import LABEL_WEIGHT_PARTS
from iqgs.engine.objects.decisions import read_decisions, write_decisions
from iqgs.engine.run import Run
from iqgs.methods.hard_labels import segment_by_labels
from iqgs.methods.protocol import SplatLabels
from iqgs.methods.vote import VoteSums
from iqgs.objects.cleaning import Cleaning, cut_in_two, decide, mixed_splats, pixels_alone
from iqgs.objects.edits import Clean, Edit, Name
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from utils.errors import UserError
from utils.progress import tqdm

KINDS = {"labels": np.int32, "confidence": np.float32, "hidden": np.int32}  # how they are stored


def clean_objects(
    run: Run, objects: LabelledSplats, edits: Sequence[Edit], params: CleaningParams
) -> Cleaning:
    """Decide what becomes of every splat of the objects after `edits`.

    The masks are those that the run's method renders, where the splats are still as training left
    them; else those that the labels give.
    """
    cameras = run.cameras.train
    if not cameras:
        raise UserError(f"{run.folder} has no training views to judge splats by")
    cameras = cameras[:: max(1, -(-len(cameras) // params.views))]
    learned = run.method is not None and all(isinstance(edit, Name) for edit in edits)
    masks = list(_masks(run, objects, cameras, learned, params.quiet))
    numbers = torch.unique(torch.cat([torch.zeros(1, dtype=torch.int64), objects.labels, *masks]))
    compact = [torch.searchsorted(numbers, mask) for mask in masks]
    splats, cuts = objects.splats, []
    for remaining in range(params.rounds, -1, -1):
        views = tqdm(
            list(zip(cameras, compact, strict=True)),
            desc="Judging splats",
            disable=params.quiet,
            leave=False,
        )
        votes, alone = _votes(run, splats, views, len(numbers))
        mixed = mixed_splats(votes)
        if not remaining or not len(mixed):
            break
        cuts.append(mixed)
        splats, _ = cut_in_two(splats, mixed.to(splats.device))
    decision = decide(votes, alone, splats.means.detach().cpu())
    return Cleaning(
        tuple(cuts), numbers[decision.label], decision.posterior, numbers[decision.hidden]
    )


@torch.no_grad()
def _masks(
    run: Run, objects: LabelledSplats, cameras: Sequence[Camera], learned: bool, quiet: bool
) -> Iterator[Tensor]:
    """The objects [P] int64 in the pixels of each view, in the numbers of the files."""
    device = objects.splats.device
    labels = SplatLabels(
        objects.labels.to(device), torch.ones(len(objects), device=device), "global"
    )
    for camera in tqdm(cameras, desc="Rendering masks", disable=quiet, leave=False):
        lens = run.renderer.lens(camera, objects.splats)
        if learned:
            found = run.learning_method.segment(lens)
            numbers = torch.from_numpy(run.file_ids(found.label_map, found.ids)).long()
        else:
            numbers = segment_by_labels(lens, labels, panoptic=True).label_map.cpu()
        yield numbers.reshape(-1)


def _votes(
    run: Run, splats: GaussianModel, views: Sequence[tuple[Camera, Tensor]], classes: int
) -> tuple[Tensor, Tensor]:
    """Votes [N, classes] of the splats in weight, and the pixels [N] that each would fill alone."""
    sums = VoteSums(len(splats), [classes - 1], splats.device)
    alone = torch.zeros(len(splats))
    for camera, mask in views:
        lens = run.renderer.lens(camera, splats)
        sums.add(lens, [mask.view(camera.height, camera.width)])
        alone += pixels_alone(splats, camera).cpu()
    return (sums.votes(0).cpu().double() / LABEL_WEIGHT_PARTS).float(), alone


def write_cleaning(folder: Path, cleaning: Cleaning) -> Clean:
    """Write decisions into a run's folder; returns the edit that names them."""
    arrays = {f"cut_{k}": rows.cpu().numpy() for k, rows in enumerate(cleaning.cuts)}
    for name, kind in KINDS.items():
        arrays[name] = getattr(cleaning, name).cpu().numpy().astype(kind)
    return Clean(*write_decisions(folder, "clean", arrays))


def read_cleaning(folder: Path, edit: Clean) -> Cleaning:
    """The decisions that an edit names. DataError where they are missing or were changed."""
    arrays = read_decisions(folder, edit)
    count = sum(name.startswith("cut_") for name in arrays)
    cuts = tuple(torch.from_numpy(arrays[f"cut_{k}"]) for k in range(count))
    labels, confidence, hidden = (torch.from_numpy(arrays[name]) for name in KINDS)
    return Cleaning(cuts, labels.long(), confidence, hidden.long())
