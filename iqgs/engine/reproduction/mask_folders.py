# SPDX-License-Identifier: Apache-2.0
"""The masks that the cells of a scene learn from and are scored against.

True ids are renumbered first, and so are the ids that faults add: every number is drawn from one
range. Otherwise all wrong ids would be larger than all true ones, as `degrade_masks.py` makes them,
and whoever names an object by its smallest id would be right for no reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arguments.synthetic import SHUFFLED, MaskFaults
from scene.masks.about import read_about
from scene.masks.collection import numbered_maps
from scene.masks.degradation import degrade_folder
from scene.masks.records import NO_TARGET
from utils.errors import DataError
from utils.images import write_id_map
from utils.storage import atomic_folder

TRUTH, DEGRADED, FRESH = "masks_exact", "masks_degraded", "masks_fresh"
FOLDERS = {  # kind of masks: sub-folder, --repair_masks
    "exact": (TRUTH, "off"),
    "degraded-raw": (DEGRADED, "off"),
    "degraded-repaired": (DEGRADED, "auto"),
    "fresh": (FRESH, "auto"),
}
Maps = Mapping[str, NDArray[np.int32]]


def link_scene(source: Path, target: Path) -> Path:
    """A folder whose entries lead to those of a scene, so that nothing is written into the scene.

    `labels.json` stays behind: its names are of other numbers. DataError where the folder holds
    another scene.
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        link = target / entry.name
        if link.is_symlink() and link.resolve() != entry.resolve():
            raise DataError(f"{target} belongs to {link.resolve().parent}; choose another --output")
        if entry.name != "labels.json" and not link.is_symlink():
            link.symlink_to(entry.resolve())
    return target


def write_masks(scene: Path, kinds: Iterable[str], seed: int = 0) -> None:
    """Write what is missing of the folders behind these kinds of masks, from `object_mask/`.

    Raises DataError where ids of the masks do not mean the same in all views.
    """
    truth = scene / TRUTH
    if not truth.is_dir():
        maps = _true_maps(scene / "object_mask")
        _write(truth, maps, drawn_ids(objects_of(maps), (), np.random.default_rng([seed, 5])))
    folders = {FOLDERS[kind][0] for kind in kinds}
    if DEGRADED in folders and not (scene / DEGRADED).is_dir():
        faulty = degrade_folder(scene, TRUTH, f"{DEGRADED}_by_birth", MaskFaults(), seed)
        maps, kept = numbered_maps(faulty), objects_of(numbered_maps(truth))
        added = [number for number in objects_of(maps) if number not in set(kept)]
        names = drawn_ids(added, kept, np.random.default_rng([seed, 6]))
        _write(scene / DEGRADED, maps, {**names, **{number: number for number in kept}})
        shutil.rmtree(faulty)
        faulty.with_name(f"{faulty.name}.json").unlink()
    if FRESH in folders and not (scene / FRESH).is_dir():
        degrade_folder(scene, TRUTH, FRESH, SHUFFLED, seed)


def _true_maps(folder: Path) -> Maps:
    """All maps of a folder; -1 where its record says that nothing is known."""
    about = read_about(folder) or {}
    if about.get("numbering", "ids") != "ids":
        raise DataError(
            f"{folder}: its ids are fresh in every view, which is no truth to score with"
        )
    maps = numbered_maps(folder)
    if not maps:
        raise DataError(f"{folder}: there are no masks")
    unknown = about.get("no_target", NO_TARGET)
    return {name: np.where(ids == unknown, NO_TARGET, ids) for name, ids in maps.items()}


def objects_of(maps: Maps) -> list[int]:
    """The ids of all views, ascending; neither 0 nor -1."""
    return sorted({int(i) for ids in maps.values() for i in np.unique(ids) if i > 0})


def drawn_ids(old: Iterable[int], taken: Iterable[int], rng: np.random.Generator) -> dict[int, int]:
    """{old id: new id}, drawn without repetition from 1..999 (or more, for many) and not taken."""
    old, taken = list(old), set(taken)
    free = [i for i in range(1, max(1000, 4 * (len(old) + len(taken)))) if i not in taken]
    return dict(zip(old, rng.permutation(free)[: len(old)].tolist(), strict=True))


def _write(folder: Path, maps: Maps, names: Mapping[int, int]) -> None:
    with atomic_folder(folder) as made:
        for name, ids in maps.items():
            values, place = np.unique(ids, return_inverse=True)
            new = np.array([names.get(int(v), int(v)) for v in values], np.int32)
            suffix = ".tiff" if new.min() < 0 else ".png"
            write_id_map(made / f"{name}{suffix}", new[place.reshape(ids.shape)])
