# SPDX-License-Identifier: Apache-2.0
"""Faults of mask generators and trackers, put into exact masks: an ordered list of label maps.

Every fault is drawn from one generator and counted, so that a test can hold the rates. Id 0 (no
instance) never becomes an instance, except within the moved outlines; nor does -1 (no target).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from arguments.synthetic import MaskFaults
from scene.masks.collection import numbered_maps
from scene.masks.formats.pictures import id_suffix
from scene.masks.records import LARGEST_ID
from utils.errors import DataError, UserError
from utils.images import write_id_map
from utils.storage import atomic_folder, write_text

Ids = NDArray[np.int32]
logger = logging.getLogger(__name__)

SMOOTHNESS = 4.0  # pixels over which the outlines' displacement changes
SMALLEST_SPLIT = 16  # pixels: smaller masks do not fall apart


@dataclass
class _Faults:
    """What is decided once for the whole sequence, and the counts of what was done."""

    rng: np.random.Generator
    knobs: MaskFaults
    next_id: int
    split_to: dict[int, int] = field(default_factory=dict)  # object -> id of its second part
    broken_at: dict[int, tuple[int, int]] = field(default_factory=dict)  # object -> (view, new id)
    counts: Counter[str] = field(default_factory=Counter)

    def new_id(self) -> int:
        if self.next_id > LARGEST_ID:
            raise DataError(
                f"the masks hold an id so near to {LARGEST_ID} that faults find no new ones above "
                "it; renumber the masks"
            )
        self.next_id += 1
        return self.next_id - 1

    def happens(self, rate: float) -> bool:
        return bool(self.rng.uniform() < rate)


def degrade_masks(
    maps: Sequence[Ids], knobs: MaskFaults, rng: np.random.Generator
) -> tuple[list[Ids], dict[str, int]]:
    """Degraded copies of label maps [H, W] in the order of the views, and counts of the faults.

    Counts: masks (view, object pairs), objects, split, missing, merged, switched (pairs), broken
    and fragile (objects).

    Raises:
        DataError: there are no numbers left above the largest id.
    """
    objects = sorted({int(i) for ids in maps for i in np.unique(ids) if i > 0})
    faults = _Faults(rng, knobs, max(objects, default=0) + 1)
    faults.counts.update(objects=len(objects))
    for number in _some(objects, knobs.split_objects, rng):
        faults.split_to[number] = faults.new_id()
    for number in _some(objects, knobs.broken, rng):
        seen = [k for k, ids in enumerate(maps) if (ids == number).any()]
        if len(seen) > 1:  # never at its first view: that would be a renaming
            faults.broken_at[number] = (int(rng.choice(seen[1:])), faults.new_id())
    faults.counts.update(fragile=len(faults.split_to), broken=len(faults.broken_at))
    degraded = [_degrade_view(ids, view, faults) for view, ids in enumerate(maps)]
    if knobs.fresh:
        largest = max((len(np.unique(ids[ids > 0])) for ids in degraded), default=0)
        degraded = [renumber(ids, largest, rng) for ids in degraded]
    return degraded, dict(faults.counts)


def _some(objects: list[int], rate: float, rng: np.random.Generator) -> list[int]:
    """That share of the objects, rounded, drawn without repetition."""
    count = int(round(rate * len(objects)))
    return sorted(int(i) for i in rng.choice(objects, count, replace=False)) if count else []


def _degrade_view(ids: Ids, view: int, faults: _Faults) -> Ids:
    knobs, result = faults.knobs, ids.astype(np.int32, copy=True)
    present = [int(i) for i in np.unique(ids) if i > 0]
    for number in present:
        mask = ids == number
        faults.counts["masks"] += 1
        name = number
        if number in faults.broken_at and view >= faults.broken_at[number][0]:
            name = faults.broken_at[number][1]
        if faults.happens(knobs.switched):
            others = [i for i in present if i != number]
            name = (
                int(faults.rng.choice(others))
                if others and faults.happens(0.5)
                else faults.new_id()
            )
            faults.counts["switched"] += 1
        if faults.happens(knobs.merged):
            neighbor = touching(ids, mask, faults.rng)
            if neighbor:
                name = neighbor
                faults.counts["merged"] += 1
        result[mask] = name
        if number in faults.split_to and faults.happens(knobs.split_views):
            part = cut(mask, faults.rng)
            result[part] = faults.split_to[number]
            faults.counts["split"] += int(part.any())
        if faults.happens(knobs.missing):
            result[mask] = 0
            faults.counts["missing"] += 1
    return warp(result, knobs.boundary, faults.rng) if knobs.boundary > 0 else result


def touching(ids: Ids, mask: NDArray[np.bool_], rng: np.random.Generator) -> int:
    """An id that touches the mask [H, W], drawn by length of the common outline; 0 if none."""
    around = ids[binary_dilation(mask) & ~mask]
    around = around[around > 0]
    return int(rng.choice(around)) if around.size else 0


def cut(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The part of a mask on one side of a random line near its middle; empty if it is tiny."""
    rows, columns = np.nonzero(mask)
    part = np.zeros_like(mask)
    if rows.size < SMALLEST_SPLIT:
        return part
    turn = rng.uniform(0, 2 * np.pi)
    across = np.cos(turn) * columns + np.sin(turn) * rows
    side = across > np.quantile(across, rng.uniform(0.3, 0.7))
    part[rows[side], columns[side]] = True
    return part


def warp(ids: Ids, pixels: float, rng: np.random.Generator) -> Ids:
    """Labels fetched from smoothly displaced places; the displacement has that RMS in pixels."""
    height, width = ids.shape
    moves = []
    for _ in range(2):
        smooth = gaussian_filter(rng.standard_normal((height, width)), SMOOTHNESS, mode="nearest")
        moves.append(smooth / max(float(smooth.std()), 1e-12) * pixels / np.sqrt(2.0))
    rows, columns = np.mgrid[:height, :width]
    rows = np.clip(np.rint(rows + moves[0]), 0, height - 1).astype(int)
    columns = np.clip(np.rint(columns + moves[1]), 0, width - 1).astype(int)
    return ids[rows, columns]


def renumber(ids: Ids, largest: int, rng: np.random.Generator) -> Ids:
    """The same masks with other ids, drawn without repetition from 1..largest; 0 and -1 stay."""
    values, position = np.unique(ids, return_inverse=True)
    objects = values > 0
    values[objects] = rng.permutation(largest)[: objects.sum()] + 1
    return np.asarray(values[position.reshape(ids.shape)], np.int32)


def degrade_folder(
    scene: Path, source: str, target: str, knobs: MaskFaults, seed: int, overwrite: bool = False
) -> Path:
    """Degrade the masks of `scene/source`, in the order of their names, into `scene/target`.

    Masks in any format become id maps, .png (16 bits) where they fit and .tiff (32 bits) else.
    `<target>.json` beside the folder records knobs, seed and counts.

    Raises:
        DataError: there are no masks; UserError: `target` is the source, or another's folder.
    """
    before, after = scene / source, scene / target
    maps = numbered_maps(before)
    if not maps:
        raise DataError(f"{before}: there are no masks to degrade")
    record = after.with_name(f"{after.name}.json")
    if after.resolve() == before.resolve():
        raise UserError(f"{after}: the degraded masks must not replace their source")
    if after.is_dir() and any(after.iterdir()) and not record.is_file() and not overwrite:
        raise UserError(
            f"{after}: holds masks of another program; name another folder, or give --overwrite"
        )
    rng = np.random.default_rng([seed, 3])
    degraded, counts = degrade_masks(list(maps.values()), knobs, rng)
    suffix = id_suffix(min(int(ids.min()) for ids in degraded), max(int(i.max()) for i in degraded))
    with atomic_folder(after) as folder:
        for name, ids in zip(maps, degraded, strict=True):
            write_id_map(folder / f"{name}{suffix}", ids)
    about = {"source": source, "seed": seed, "knobs": asdict(knobs), "counts": counts}
    write_text(record, json.dumps(about, indent=1) + "\n")
    logger.info("%s: %s", after, ", ".join(f"{k} {v}" for k, v in counts.items()))
    return after
