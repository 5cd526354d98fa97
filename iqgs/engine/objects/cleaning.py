# SPDX-License-Identifier: Apache-2.0
"""Objects of a run cleaned by its own training views; no photograph is needed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from arguments.editing import CleaningParams
from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.run import Run
from iqgs.engine.run_folder import EDITS_FOLDER
from iqgs.methods.hard_labels import segment_by_labels
from iqgs.methods.protocol import SplatLabels
from iqgs.methods.vote import VoteAccumulator
from iqgs.objects.cleaning import Cleaning, cut_in_two, decide, mixed_splats, pixels_alone
from iqgs.objects.edits import Clean, Edit, Name
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from utils.errors import DataError, UserError
from utils.storage import atomic_write

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
    """Votes [N, classes] of the splats, and the pixels [N] that each would fill alone."""
    votes = VoteAccumulator(len(splats), classes - 1)
    alone = torch.zeros(len(splats))
    for camera, mask in views:
        votes.add(run.renderer.lens(camera, splats).weights(MIN_WEIGHT), mask)
        alone += pixels_alone(splats, camera).cpu()
    return votes.votes, alone


def write_cleaning(folder: Path, cleaning: Cleaning) -> Clean:
    """Write decisions into a run's folder; returns the edit that names them. The same decisions
    have the same name, so that nothing is overwritten by something else.
    """
    arrays = {f"cut_{k}": rows.cpu().numpy() for k, rows in enumerate(cleaning.cuts)}
    for name, kind in KINDS.items():
        arrays[name] = getattr(cleaning, name).cpu().numpy().astype(kind)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    data = stream.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{EDITS_FOLDER}/clean-{digest[:12]}.npz"
    atomic_write(folder / name, lambda file: file.write(data), len(data))
    return Clean(name, digest)


def read_cleaning(folder: Path, edit: Clean) -> Cleaning:
    """The decisions that an edit names. DataError where they are missing or were changed."""
    path = folder / edit.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); an edit needs it") from None
    if hashlib.sha256(data).hexdigest() != edit.sha256:
        raise DataError(f"{path}: is not the file that the edit names; `undo` it and clean again")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        count = sum(name.startswith("cut_") for name in arrays.files)
        cuts = tuple(torch.from_numpy(arrays[f"cut_{k}"]) for k in range(count))
        labels, hidden = (
            torch.from_numpy(arrays[n].astype(np.int64)) for n in ("labels", "hidden")
        )
        return Cleaning(cuts, labels, torch.from_numpy(arrays["confidence"]), hidden)


def forget_unused(folder: Path, edits: Sequence[Edit]) -> None:
    """Remove the decisions that no edit names any more."""
    used = {edit.file for edit in edits if isinstance(edit, Clean)}
    for path in (folder / EDITS_FOLDER).glob("clean-*.npz"):
        if f"{EDITS_FOLDER}/{path.name}" not in used:
            path.unlink(missing_ok=True)
    if (folder / EDITS_FOLDER).is_dir() and not any((folder / EDITS_FOLDER).iterdir()):
        (folder / EDITS_FOLDER).rmdir()
