# SPDX-License-Identifier: Apache-2.0
"""Masks of one object in some views: the folders of NVOS and of SPIn-NeRF.

NVOS (Neural Volumetric Object Selection), `labels/llff/`; OBJECT is a scene's name, or that and a
word more (horns_left, horns_center):

    masks/OBJECT/TARGET_mask.png            the object in the one view that is scored
    reference_image/OBJECT/REFERENCE.JPG    which view was scribbled on
    scribbles/OBJECT/{pos,neg}_*.png        scribbles, a quarter of the photograph's size

SPIn-NeRF, `Multiview-Segmentation-Data/`, SCENE with its data set in brackets ("fern (llff)"):

    SCENE/VIEW.png                          the object in each annotated view
    SCENE/VIEW_cutout.png VIEW_pseudo.png annotations.json    not read

VIEW is the photograph's name; or `imageNNN`, which counts the photographs in order from 0 (fern,
fortress, leaves, orchids); or it begins with 0_ or 1_, the data set's split (lego, Truck).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from utils.errors import DataError

NVOS_PLACES = ("nvos", "labels/llff", "")  # in the scene's folder, or in --gt_path
NVOS_FOLDERS = ("masks", "reference_image", "scribbles")
SPIN_PLACES = ("spin-nerf", "")
_PICTURES = {".png", ".jpg", ".jpeg"}
_PREVIEWS = ("_cutout", "_pseudo")
_COUNTED = re.compile(r"image(\d+)", re.IGNORECASE)
_SPLIT = re.compile(r"[01]_(.+)")
_NAMED = 6


@dataclass(frozen=True)
class ObjectTruth:
    """One object: what points at it in the reference view, and the masks that are scored."""

    name: str
    reference: str  # name of the view
    positive: Path  # a mask, or scribbles
    negative: Path | None
    targets: dict[str, Path]  # view name -> mask
    is_scribbled: bool


def nvos_objects(root: Path, scene: str, wanted: str, views: Sequence[str]) -> list[ObjectTruth]:
    """The objects of NVOS that belong to a scene (`wanted` names one). DataError.

    root: the scene's folder, or that of the labels; scene: the scene's name, with or without
    "_undistort"; views: names of its images.
    """
    base = next((b for b in (root / p for p in NVOS_PLACES) if _holds_nvos(b)), None)
    if base is None:
        raise DataError(
            f"{root}: no labels of NVOS; expected the folders {', '.join(NVOS_FOLDERS)} there, in "
            f"{NVOS_PLACES[0]}/ or in {NVOS_PLACES[1]}/; --gt_path names the folder that holds them"
        )
    labelled = sorted(path.name for path in (base / "masks").iterdir() if path.is_dir())
    own = scene.removesuffix("_undistort")
    chosen = [name for name in labelled if name == own or name.startswith(f"{own}_")]
    if wanted:
        chosen = [name for name in labelled if name == wanted]
    if not chosen:
        asked = f"--object {wanted}: no such object"
        if not wanted:
            asked = f"no object is named after scene {scene}; --object names one"
        raise DataError(f"{base}: {asked}; it has {', '.join(labelled) or 'none'}")
    return [_nvos_object(base, name, views) for name in chosen]


def _holds_nvos(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in NVOS_FOLDERS)


def _nvos_object(base: Path, name: str, views: Sequence[str]) -> ObjectTruth:
    masks, references, scribbles = (base / folder / name for folder in NVOS_FOLDERS)
    stems = _by_stem(views)
    targets = {}
    for path in _pictures(masks, "*_mask"):
        targets[_view_of(path.stem.removesuffix("_mask"), stems, path)] = path
    reference = _only(_pictures(references, "*"), references, "reference photograph")
    if not targets:
        raise DataError(f"{masks}: no mask of a target view, TARGET_mask.png")
    negative = _pictures(scribbles, "neg_*")
    return ObjectTruth(
        name,
        _view_of(reference.stem, stems, reference),
        _only(_pictures(scribbles, "pos_*"), scribbles, "positive scribble pos_*.png"),
        _only(negative, scribbles, "negative scribble neg_*.png") if negative else None,
        targets,
        True,
    )


def spin_nerf_objects(
    root: Path, scene: str, views: Sequence[str], notices: list[str]
) -> list[ObjectTruth]:
    """The one object of a scene of SPIn-NeRF; its first annotated view is the reference. DataError.

    root: the scene's folder, that of its masks, or the one that holds those of all scenes; scene:
    the scene's name; views: names of its images.
    """
    folder = _spin_folder(root, scene)
    files = [path for path in _pictures(folder, "*") if not path.stem.endswith(_PREVIEWS)]
    named = _named_views(files, views)
    if named is None:
        named = _counted_views(files, views)
        notices.append(
            f"{folder}: {files[0].name} is not the name of a photograph, so the numbers count "
            f"them: {files[0].name} is of {next(iter(named))}"
        )
    first = next(iter(named))
    return [ObjectTruth(scene, first, named[first], None, named, False)]


def _spin_folder(root: Path, scene: str) -> Path:
    """The folder of the scene's masks: named after it, the place itself, or in it."""
    for place in (root / name for name in SPIN_PLACES):
        below = sorted(path for path in place.glob("*") if path.is_dir())
        for folder in below:
            own = folder.name.split(" (")[0].casefold()
            if own == scene.casefold() and _pictures(folder, "*"):
                return folder
        if _pictures(place, "*"):
            return place
    raise DataError(
        f"{root}: no masks of SPIn-NeRF for scene {scene}; expected VIEW.png there, in "
        f"{SPIN_PLACES[0]}/ or in a folder named like the scene ('{scene} (llff)'); --gt_path "
        "names the folder that holds them"
    )


def _named_views(files: Sequence[Path], views: Sequence[str]) -> dict[str, Path] | None:
    """View of each mask by name; None where no mask is named after a view. DataError."""
    stems = _by_stem(views)
    keys = {path: path.stem.casefold() for path in files}
    if not any(key in stems for key in keys.values()):
        keys = {p: m.group(1) if (m := _SPLIT.fullmatch(k)) else k for p, k in keys.items()}
    if not any(key in stems for key in keys.values()):
        return None
    found: dict[str, Path] = {}
    for path, key in keys.items():
        view = _view_of(key, stems, path)
        if view in found:
            raise DataError(f"{path}: {found[view].name} is a mask of the same view {view}")
        found[view] = path
    return found


def _counted_views(files: Sequence[Path], views: Sequence[str]) -> dict[str, Path]:
    """View of each mask imageNNN, the NNNth of all views in order, from 0. DataError."""
    ordered, found = sorted(views), {}
    for path in files:
        match = _COUNTED.fullmatch(path.stem)
        if match is None:
            raise DataError(
                f"{path}: no photograph has this name, and it is not imageNNN; the scene's are "
                f"{_listed(ordered)}"
            )
        if int(match.group(1)) >= len(ordered):
            raise DataError(
                f"{path}: counts to photograph {match.group(1)}, but the scene has {len(ordered)}, "
                "numbered from 0; are all of the data set's photographs there?"
            )
        found[ordered[int(match.group(1))]] = path
    return found


def _pictures(folder: Path, pattern: str) -> list[Path]:
    """Pictures of a folder whose stems fit, by name."""
    found = folder.glob(f"{pattern}.*") if folder.is_dir() else ()
    return sorted(p for p in found if p.suffix.lower() in _PICTURES and not p.name.startswith("."))


def _only(paths: list[Path], folder: Path, what: str) -> Path:
    if len(paths) != 1:
        held = _listed([path.name for path in paths]) if paths else "none"
        raise DataError(f"{folder}: expected one {what}, found {held}")
    return paths[0]


def _by_stem(views: Sequence[str]) -> dict[str, str]:
    return {PurePosixPath(name).stem.casefold(): name for name in views}


def _view_of(stem: str, stems: dict[str, str], path: Path) -> str:
    view = stems.get(stem.casefold())
    if view is None:
        raise DataError(
            f"{path}: the scene has no photograph {stem}; it has {_listed(sorted(stems.values()))}"
        )
    return view


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
