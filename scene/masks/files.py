# SPDX-License-Identifier: Apache-2.0
"""Which mask file belongs to which image: the names that people and programs give them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scene.masks.formats import EXACT_SUFFIXES, SUFFIXES
from scene.masks.formats.folder import numbered_files
from utils.errors import MaskError

_SKIPPED = ("@eaDir", "__MACOSX", "Thumbs.db")


@dataclass(frozen=True)
class MaskFiles:
    """The mask files of a scene's images, and those that belong to none."""

    folder: Path
    chosen: dict[str, Path]  # image name -> its file, or its folder of binary masks
    unmatched: tuple[Path, ...]  # files that look like masks and fit no image
    count: int  # files that look like masks
    example: Path | None  # one of them

    def holds(self) -> str:
        """What the folder holds, for a message."""
        if self.example is None:
            return "the folder holds no file that could be a mask"
        name = self.example.relative_to(self.folder).as_posix()
        return f"the folder holds {self.count} files, for example {name}"


def match_mask_files(folder: Path, names: Sequence[str]) -> MaskFiles:
    """The mask file of each image that has one, under `folder`.

    For an image `sub/000.jpg`: `sub/000.<suffix>`, else `sub/000.jpg.<suffix>` (COLMAP's rule),
    else with the name cut at its first dot, else these without the sub-folder (Gaussian Grouping
    writes the last two), else in other letter case, else a folder `sub/000/<id>.png` of binary
    masks. Of several suffixes the first of SUFFIXES wins.
    Raises MaskError naming two images that share a mask file.
    """
    files = sorted(_files_below(folder), key=lambda path: (_rank(path), path.as_posix()))
    by_key: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_key[_key(folder, path)].append(path)
    chosen: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        key = next((key for key in _candidates(name) if key in by_key), None)
        if key is not None:
            _claim(by_key[key][0], name, chosen, owners)
    _match_other_case(by_key, [name for name in names if name not in chosen], chosen, owners)
    _match_folders(folder, [name for name in names if name not in chosen], chosen, owners)
    unmatched = tuple(sorted(_unmatched(folder, files, names, chosen)))
    return MaskFiles(folder, chosen, unmatched, len(files), files[0] if files else None)


def _claim(path: Path, name: str, chosen: dict[str, Path], owners: dict[Path, str]) -> None:
    if path in owners:
        raise MaskError(
            f"{path}: images {owners[path]!r} and {name!r} would both use this mask; "
            "keep the sub-folders of the images in the mask folder",
            "shared",
        )
    owners[path] = name
    chosen[name] = path


def _files_below(folder: Path) -> Iterator[Path]:
    """All files that a mask may be in; links to folders are followed once."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # In order: of a folder and a link to it the first is taken, on any file system.
        folders[:] = sorted(name for name in folders if not _is_skipped(name))
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not _is_skipped(name):
                yield Path(parent, name)


def _is_skipped(name: str) -> bool:
    """What operating systems and viewers leave behind."""
    return name.startswith(".") or name in _SKIPPED


def _rank(path: Path) -> int:
    return SUFFIXES.index(path.suffix.lower())


def _key(folder: Path, path: Path) -> str:
    """The path in the folder without its last suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def _candidates(name: str) -> list[str]:
    """Keys under which an image's mask may be found, the most exact first."""
    path = PurePosixPath(name)
    bases = (path.stem, path.name, path.name.split(".")[0] or path.stem)
    keys = [(path.parent / base).as_posix() for base in bases]
    return list(dict.fromkeys([*keys, *bases]))


def _match_other_case(
    by_key: dict[str, list[Path]],
    names: Sequence[str],
    chosen: dict[str, Path],
    owners: dict[Path, str],
) -> None:
    """Give images without a mask the one file whose name differs in letter case only."""
    folded: dict[str, list[str]] = defaultdict(list)
    for key in by_key:
        folded[key.casefold()].append(key)
    for name in names:
        keys = (folded.get(key.casefold(), []) for key in _candidates(name))
        free = [[key for key in found if by_key[key][0] not in owners] for found in keys]
        found = next((keys for keys in free if keys), [])
        if len(found) == 1:
            _claim(by_key[found[0]][0], name, chosen, owners)


def _match_folders(
    folder: Path, names: Sequence[str], chosen: dict[str, Path], owners: dict[Path, str]
) -> None:
    """Give images without a mask their folder of binary masks, where it holds nothing else."""
    for name in names:
        for key in _candidates(name):
            files = numbered_files(folder / key)
            if files and not owners.keys() & set(files):
                _claim(folder / key, name, chosen, owners)
                break


def _unmatched(
    folder: Path, files: Iterable[Path], names: Sequence[str], chosen: dict[str, Path]
) -> list[Path]:
    """Files of a kind that masks of this folder have, under a name that no image has.

    A .json is a mask only beside other .json masks, and a lossy picture is often a preview.
    """
    used = set(chosen.values())
    kinds = {*EXACT_SUFFIXES, ".npy", ".npz"} | {path.suffix.lower() for path in used}
    known = {key.casefold() for name in names for key in _candidates(name)}
    return [
        path
        for path in files
        if path.suffix.lower() in kinds
        and path not in used
        and path.parent not in used
        and _key(folder, path).casefold() not in known
    ]


def mask_keys(names: Sequence[str]) -> dict[str, str]:
    """Image name -> name of its mask without a suffix: `sub/000` for `sub/000.jpg`.

    Where two images differ in their suffixes only, it is kept (`sub/000.jpg`), as COLMAP does.
    """
    short = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    owners = Counter(key.casefold() for key in short.values())
    return {name: key if owners[key.casefold()] == 1 else name for name, key in short.items()}
