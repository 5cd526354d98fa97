# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or absent.

A file is written under a temporary name in the same folder, flushed to the disk and renamed, so a
kill at any moment leaves the old file or the new one. Temporaries are named `.NAME.PID.COUNT.tmp`
(folders being replaced: `.NAME.PID.COUNT.old.tmp`) and are removed by `sweep_stale`.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import RunError, UserError
from utils.shortage import DISK_FAILS, DISK_FULL

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
_counter = itertools.count()
_active: set[Path] = set()  # temporaries that this process is writing now
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.\d+(?P<old>\.old)?\.tmp")


def disk_full(folder: Path, needed: int) -> RunError:
    """The error that says how much room is missing; `needed` in bytes."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    return RunError(f"disk full: need {needed / 1e6:.1f} MB, free {free / 1e6:.1f} MB in {folder}")


def write_error(path: Path, error: OSError, needed: int) -> RunError | UserError:
    """The error that says why `path` of `needed` bytes cannot be written: RunError where the disk
    is full or fails, else UserError.
    """
    if error.errno in DISK_FULL:
        return disk_full(path.parent, needed)
    kind = RunError if error.errno in DISK_FAILS else UserError
    return kind(f"cannot write {path}: {error.strerror or error}")


def atomic_write(
    path: PathLike, writer: Callable[[BinaryIO], Any], expected_bytes: int = 0
) -> None:
    """Let `writer` fill a stream that becomes `path` only when it is complete and on the disk.

    The folder is made where missing. `expected_bytes`, where known, makes the message of a full
    disk tell the whole need. Raises RunError (disk full) or UserError (not writable).
    """
    path = Path(path)
    publish(write_temporary(path, writer, expected_bytes), path)


def write_text(path: PathLike, text: str) -> None:
    """Write `text` as UTF-8 through `atomic_write`."""
    data = text.encode("utf-8")
    atomic_write(path, lambda stream: stream.write(data), len(data))


@contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `path` (replacing an older one) if all went well."""
    path = Path(path)
    temporary = _temporary_name(path)
    with _translated(path, lambda: 0):
        temporary.mkdir(parents=True)
    _active.add(temporary)
    try:
        yield temporary
        _sync_folder(temporary)
        if path.exists():
            aside = _temporary_name(path, ".old")
            _active.add(aside)
            os.rename(path, aside)
            os.rename(temporary, path)
            shutil.rmtree(aside, ignore_errors=True)
            _active.discard(aside)
        else:
            os.rename(temporary, path)
        _sync_folder(path.parent)
    finally:
        _active.discard(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def give_up(temporary: Path) -> None:
    """Remove a temporary that will not be published; harmless after `publish`."""
    temporary.unlink(missing_ok=True)
    _active.discard(temporary)


def sweep_stale(folder: PathLike) -> list[Path]:
    """Remove temporaries left below `folder` by processes that are gone; returns what was removed.

    A folder that a kill left set aside, without its successor, is put back in its place instead.
    """
    stale = []
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            match = _TEMPORARY.fullmatch(name)
            found = Path(parent, name)
            if match is None or not _is_stale(int(match["pid"]), found):
                continue
            target = found.with_name(match["name"])
            if match["old"] and not target.exists():
                os.rename(found, target)
                continue
            stale.append(found)
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]
    for found in stale:
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)
    return stale


def write_temporary(path: Path, writer: Callable[[BinaryIO], Any], expected: int) -> Path:
    """Write and flush the temporary of `path`; leaves nothing behind where that fails."""
    temporary = _temporary_name(path)
    written = 0
    _active.add(temporary)
    with _translated(path, lambda: max(expected, written)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _open_temporary(temporary) as stream:
                writer(stream)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            # Removed before the message is made: its room counts as free.
            if temporary.exists():
                written = temporary.stat().st_size
                temporary.unlink()
            _active.discard(temporary)
            raise
    return temporary


def _open_temporary(temporary: Path) -> BinaryIO:
    return open(temporary, "wb")


def publish(temporary: Path, path: Path) -> None:
    """Put a finished temporary in the place of `path`."""
    with _translated(path, lambda: 0):
        os.replace(temporary, path)
    _active.discard(temporary)
    _sync_folder(path.parent)


@contextmanager
def _translated(path: Path, needed: Callable[[], int]) -> Iterator[None]:
    """Turn an OSError of writing `path` into the sentence that the user needs."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error, needed()) from None


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; not every file system can, and then there is nothing to do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        log.debug("cannot sync folder %s", folder)
    finally:
        os.close(descriptor)


def _temporary_name(path: Path, kind: str = "") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_counter)}{kind}.tmp")


def _is_stale(pid: int, found: Path) -> bool:
    if pid == os.getpid():  # ours, or of a process that had our number in another container
        return found not in _active
    return not process_exists(pid)


def process_exists(pid: int) -> bool:
    """Whether a process of this number runs, ours or somebody else's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
