# SPDX-License-Identifier: Apache-2.0
"""Files of exports: a .zip unpacked into a temporary folder, and texts, with care."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from utils.errors import DataError, FormatError

WANTED = frozenset(
    {".xml", ".json", ".txt", ".names", ".yaml", ".yml", ".png", ".bmp", ".tif", ".tiff", ".webp"}
    | {".npy", ".npz"}
)  # no photographs: those of the scene are used
MOST_BYTES = 20_000_000_000  # of all files of an archive together
MOST_CHARACTERS = 20_000_000  # of a text
# RuntimeError: encrypted, or a compression that zipfile lacks.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder with an archive's files while this lasts; anything else as it is. DataError."""
    if path.suffix.lower() != ".zip" or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="iqgs_") as name:
        try:
            with zipfile.ZipFile(path) as archive:
                _extract(path, archive, Path(name))
        except _DAMAGED as error:
            raise DataError(f"{path}: not a readable .zip ({error})") from error
        yield Path(name)


def _extract(path: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and PurePosixPath(member.filename).suffix.lower() in WANTED
    ]
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise DataError(f"{path}: more than {MOST_BYTES} bytes when unpacked")
    for member in members:
        target = (folder / member.filename).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise DataError(f"{path}: holds the path {member.filename!r}, which leads out of it")
        archive.extract(member, folder)


def read_text(path: Path) -> str:
    """A file of an export as UTF-8, with or without a mark at its beginning. FormatError."""
    if path.stat().st_size > MOST_CHARACTERS:
        raise FormatError(f"{path}: larger than {MOST_CHARACTERS} bytes")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text in UTF-8 ({error.reason})") from error
