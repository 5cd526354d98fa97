# SPDX-License-Identifier: Apache-2.0
"""The objects of a run at the level that a command asks for.

The tree is found once for the objects as edits left them, without training, and kept in
RUN/objects/levels-*.npz; other objects need another one, which replaces it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import torch

from arguments.levels import LevelParams
from arguments.masks import MergeParams, layers_folder
from iqgs.engine.objects.relating import (
    LONGER_SIDE,
    nodes_of,
    seen_nodes,
    shared_pixels,
)
from iqgs.engine.run import Run, spread
from iqgs.engine.run_folder import OBJECTS_FOLDER
from iqgs.engine.settings import scene_of
from iqgs.objects.granularity import (
    PART_LEVELS,
    PARTS_PER_LEVEL,
    Division,
    Granularity,
    granularity,
    neighbor_groups,
    neighbor_relation,
    nested,
    undivided,
)
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import Ids, at_level, part_tree
from iqgs.objects.mask_levels import MaskVotes
from iqgs.preparation.proposals.merging import levels as nesting_levels
from scene.masks import MaskPatches
from scene.view import View
from utils.errors import UserError
from utils.progress import tqdm
from utils.storage import atomic_write

FORMAT = 1
MOST_VIEWS = 32  # whose masks are asked

logger = logging.getLogger(__name__)


def at_wanted_level(run: Run, objects: LabelledSplats, params: LevelParams) -> LabelledSplats:
    """The objects at the level of the command line; as they are where none is asked for.

    UserError for a level that there is not, and for masks that the scene has not.
    """
    level = params.wanted_level
    if level is None:
        return objects
    if level == 0:
        return at_level(objects, 0)
    found = run_granularity(run, objects, params)
    try:
        return found.at(objects, level)
    except ValueError as error:
        raise UserError(f"--level {params.level}: {error}") from None


def run_granularity(run: Run, objects: LabelledSplats, params: LevelParams) -> Granularity:
    """The tree of the objects, from its file where there is one of these very objects."""
    path = run.folder / OBJECTS_FOLDER / f"levels-{params.level_source}.npz"
    views = _layered_views(run) if params.level_source == "masks" else []
    key = _key(objects, views)
    known = _read(path, key)
    if known is not None:
        return known
    wholes = at_level(objects, 0)
    if params.level_source == "masks":
        division = mask_division(run, wholes, views, params.quiet)
    else:
        division = splat_division(run, wholes, params.quiet)
    free = set(undivided(objects))
    parts = {number: found for number, found in division.parts.items() if number in free}
    taken = () if run.ids is None else run.ids.originals
    found = granularity(objects, Division(parts, division.groups), taken)
    _write(path, key, found)
    return found


def splat_division(run: Run, wholes: LabelledSplats, quiet: bool) -> Division:
    """Parts and groups by which splats share pixels."""
    nodes = nodes_of(wholes)
    shared = shared_pixels(run, wholes, nodes.of, quiet, LONGER_SIDE)
    means = wholes.splats.means.detach().cpu().numpy().astype(np.float64)
    parts: dict[int, list[Ids]] = {}
    for number, span in tqdm(
        list(nodes.spans()), desc="Dividing objects", disable=quiet, leave=False
    ):
        mine = wholes.labels == number
        rows = mine.numpy()
        part = wholes.splats.subset(mine.to(wholes.splats.device))
        tree = part_tree(part, nodes.of[rows] - span.start, shared[span, span])
        counts = [PARTS_PER_LEVEL**level for level in range(1, PART_LEVELS + 1)]
        found = [tree.pieces(means[rows], count) for count in counts]
        for level in range(PART_LEVELS - 1, 0, -1):
            found[level - 1] = nested(found[level - 1], found[level])
        parts[number] = found
    return Division(parts, neighbor_groups(*neighbor_relation(nodes, shared)))


def mask_division(run: Run, wholes: LabelledSplats, views: list[View], quiet: bool) -> Division:
    """Parts and groups by the levels of overlapping masks."""
    nodes = nodes_of(wholes)
    votes = MaskVotes(nodes)
    for view in tqdm(views, desc="Reading masks", disable=quiet, leave=False):
        masks = _with_levels(view.patches_on(torch.device("cpu")))
        votes.add(seen_nodes(run, wholes, nodes.of, view.camera), masks)
        view.forget()
    return votes.division()


def _with_levels(masks: MaskPatches) -> MaskPatches:
    """Masks whose file says nothing of levels get them by what lies in what."""
    if bool(masks.level.any()) or not len(masks.level):
        return masks
    members = masks.members.double()
    shared = (members.T @ (members * masks.size[:, None])).round().long().numpy()
    return dataclasses.replace(
        masks, level=torch.from_numpy(nesting_levels(shared, MergeParams().contained)).long()
    )


def _layered_views(run: Run) -> list[View]:
    """Training views whose masks overlap. UserError where the scene has none."""
    model = run.config.model
    folders = (layers_folder(model.object_path), model.object_path)
    for folder in folders:
        if not run.has_scene or not (Path(model.source_path) / folder).is_dir():
            continue
        other = dataclasses.replace(
            run.config, model=dataclasses.replace(model, object_path=folder)
        )
        views = [view for view in scene_of(other, run.frame).train if view.mask_path is not None]
        views = list(spread(views, MOST_VIEWS))
        if any(_overlap(view) for view in views):
            return views
    listed = " and ".join(folders)
    raise UserError(
        f"--level_source masks: {model.source_path} has no overlapping masks ({listed} were looked "
        "at); leave the flag out to tell parts apart by the splats alone"
    )


def _overlap(view: View) -> bool:
    return bool((view.patches_on(torch.device("cpu")).members.sum(dim=1) > 1).any())


def _key(objects: LabelledSplats, views: list[View]) -> str:
    """What tells these objects from others."""
    digest = hashlib.sha256(f"{FORMAT} {len(objects)}".encode())
    for values in (objects.labels, objects.hidden, objects.splats.params["means"]):
        if values is not None:
            digest.update(values.detach().cpu().numpy().tobytes())
    known = [sorted(objects.names.items()), sorted(objects.parents.items())]
    files = [(str(v.mask_path), v.mask_path.stat().st_mtime_ns) for v in views if v.mask_path]
    digest.update(json.dumps([known, files]).encode())
    return digest.hexdigest()


def _write(path: Path, key: str, found: Granularity) -> None:
    about = {
        "key": key,
        "levels": sorted(found.labels),
        "names": list(found.names.items()),
        "parents": list(found.parents.items()),
    }
    arrays = [found.labels[level].numpy().astype(np.int32) for level in sorted(found.labels)]
    named = {"about": np.array(json.dumps(about)), "labels": np.stack(arrays)}
    atomic_write(path, lambda stream: np.savez_compressed(stream, **named))  # type: ignore[arg-type]


def _read(path: Path, key: str) -> Granularity | None:
    """What `_write` wrote for these objects; None for others and for a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            about = json.loads(str(data["about"]))
            if about["key"] != key:
                return None
            labels = torch.from_numpy(data["labels"].astype(np.int64))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Granularity(
        dict(zip(about["levels"], labels, strict=True)),
        {int(number): name for number, name in about["names"]},
        {int(number): whole for number, whole in about["parents"]},
    )
