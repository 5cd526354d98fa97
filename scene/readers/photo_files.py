# SPDX-License-Identifier: Apache-2.0
"""The files that belong to the image names of a model, also where a tool has renamed them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from arguments import ModelParams
from scene.readers.colmap.reading import natural_key
from utils.errors import DataError, UserError

PHOTO_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".pnm"}
)
# What cameras also leave, and nobody here reads.
_FOREIGN_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".mov", ".mp4"}
)
PHOTO_FOLDERS = ("input", "images")  # where photographs without poses are looked for
_NAMED = 5  # so many names are listed in a message before the count takes over


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def photographs_in(folder: Path, below: bool = True) -> list[str]:
    """Names of the pictures in a folder (and below), posix separators, in natural order."""
    found = [
        path.relative_to(folder).as_posix()
        for path in (folder.rglob("*") if below else folder.glob("*"))
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(found, key=natural_key)


def foreign_files(folder: Path) -> str:
    """A clause about pictures and films in a folder that have to be converted first; or nothing."""
    places = [folder, *(folder / name for name in PHOTO_FOLDERS)]
    files = [path for place in places if place.is_dir() for path in place.iterdir()]
    found = Counter(path.suffix.lower() for path in files)
    found = Counter({s: count for s, count in found.items() if s in _FOREIGN_SUFFIXES})
    if not found:
        return ""
    kinds = ", ".join(f"{count} {suffix} files" for suffix, count in sorted(found.items()))
    return f"; its {kinds} must be converted to JPEG or PNG first"


def photograph_folder(params: ModelParams, names: Sequence[str], notices: list[str]) -> Path:
    """The folder of a scene that --images names, in whatever letter case.

    DataError where there is none, naming the folder that holds most of the names.
    """
    scene = Path(params.source_path)
    folder = scene / params.images
    if folder.is_dir():
        return folder
    below = sorted(path for path in scene.iterdir() if path.is_dir())
    same = [path for path in below if path.name.casefold() == params.images.casefold()]
    if len(same) == 1:
        notices.append(f"{folder} is {same[0].name} there")
        return same[0]
    others = [path for path in (*below, scene) if path.name != params.object_path]
    held = {path: sum((path / name).is_file() for name in names) for path in others}
    best = max(held, key=lambda path: held[path])
    advice = "--images must name the folder of photographs"
    if held[best]:
        name = best.relative_to(scene).as_posix()
        advice = f"--images {name} has {held[best]} of the model's {len(names)}"
    raise DataError(f"{folder}: no such folder; {advice}")


@dataclass(frozen=True)
class FoundPhotographs:
    """Where the photographs of a model are."""

    paths: dict[str, Path]  # of every image name; the plain path where there is no such file
    others: tuple[str, ...]  # names in the folder that belong to no image


def find_photographs(
    folder: Path, names: Sequence[str], pair_by_order: bool, notices: list[str]
) -> FoundPhotographs:
    """The file of each image name in `folder`.

    A name itself; else the only file with that name in another letter case, under another suffix,
    or in another sub-folder. With `pair_by_order` files under quite other names belong to the
    images in the same order, if there are as many. Names without a file keep the path where it
    should be. Raises DataError where none of the names is among the folder's photographs.
    """
    paths = {name: folder / name for name in names}
    missing = [name for name in names if not paths[name].is_file()]
    there = photographs_in(folder)
    renamed: dict[str, str] = {}
    if missing:
        renamed = _renamed(names, missing, [n for n in there if n not in paths])
        if len(renamed) < len(missing) == len(names) and there:
            if pair_by_order:
                renamed = _paired(folder, names, there, notices)
            elif not renamed:
                raise DataError(_nothing_fits(folder, names, there))
        elif renamed:
            first = next(iter(renamed))
            notices.append(
                f"{folder}: {len(renamed)} of {len(names)} photographs are there under another "
                f"suffix, letter case or sub-folder, such as {renamed[first]} for {first}"
            )
        paths.update({name: folder / file for name, file in renamed.items()})
    used = {path.relative_to(folder).as_posix() for path in paths.values()}
    return FoundPhotographs(paths, tuple(name for name in there if name not in used))


def _keys(name: str, any_folder: bool) -> list[str]:
    """What two names have in common that mean the same photograph, the surest first."""
    path = PurePosixPath(name)
    keys = [name, path.with_suffix("").as_posix()] + [path.name, path.stem] * any_folder
    return [f"{rank} {key.casefold()}" for rank, key in enumerate(keys)]


def _renamed(names: Sequence[str], missing: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """Missing name -> file, where each is the only one of its kind.

    Another sub-folder is believed only where all names are missing: then the root has moved.
    """
    any_folder = len(missing) == len(names)
    files: dict[str, list[str]] = defaultdict(list)
    owners: dict[str, int] = defaultdict(int)
    for file in there:
        for key in _keys(file, any_folder):
            files[key].append(file)
    for name in names:
        for key in _keys(name, any_folder):
            owners[key] += 1
    found: dict[str, str] = {}
    for name in missing:
        # A name without a suffix ("frame.001") is a file's whole stem.
        for key in (*_keys(name, any_folder), f"1 {name.casefold()}"):
            if len(files[key]) == 1 and owners[key] <= 1:
                found[name] = files[key][0]
            if files[key]:  # several fit: no guess, and no vaguer one either
                break
    taken = Counter(found.values())
    return {name: file for name, file in found.items() if taken[file] == 1}


def _originals(folder: Path, names: Sequence[str]) -> list[str]:
    """The names in order, with those between them that the model has no pose for, if known.

    Folders of smaller copies hold all photographs; the full-size ones beside them tell which were
    left out by the model.
    """
    full = folder.parent / "images"
    if full.is_dir() and full.resolve() != folder.resolve():
        there = photographs_in(full)
        if set(names) <= set(there):
            return there
    return sorted(names, key=natural_key)


def _paired(
    folder: Path, names: Sequence[str], there: Sequence[str], notices: list[str]
) -> dict[str, str]:
    originals = _originals(folder, names)
    if len(originals) != len(there):
        raise UserError(
            f"--pair_by_order: {folder} holds {len(there)} photographs, but there are "
            f"{len(originals)} images to pair them with; leave that option out, or add what is "
            "missing"
        )
    notices.append(
        f"{folder}: paired by order, {there[0]} is {originals[0]} and so on to {there[-1]} is "
        f"{originals[-1]}"
    )
    pairs = dict(zip(originals, there, strict=True))
    return {name: pairs[name] for name in names}


def _nothing_fits(folder: Path, names: Sequence[str], there: Sequence[str]) -> str:
    fault = (
        f"{folder}: none of the model's {len(names)} images is in it, such as {names[0]}; it holds "
        f"{len(there)} photographs, such as {there[0]}"
    )
    if len(there) == len(_originals(folder, names)):
        return f"{fault}; if these are the same ones in the same order, pass --pair_by_order"
    return f"{fault}; --images must name the folder of the model's photographs"
