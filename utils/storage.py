# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or absent, and checkpoints that prove it.

A file is written under a temporary name in the same folder, flushed to the disk and renamed, so a
kill at any moment leaves the old file or the new one. Temporaries are named `.NAME.PID.COUNT.tmp`
(folders being replaced: `.NAME.PID.COUNT.old.tmp`) and are removed by `sweep_stale`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from utils.errors import DataError, RunError, UserError

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_counter = itertools.count()
_active: set[Path] = set()  # temporaries that this process is writing now
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.\d+(?P<old>\.old)?\.tmp")
# What torch.load is known to raise on damaged bytes, beside its own refusal of foreign classes.
_LOAD_ERRORS = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, MemoryError),
    *(AttributeError, AssertionError, ImportError, ArithmeticError),
)


def disk_full(folder: Path, needed: int) -> RunError:
    """The error that says how much room is missing; `needed` in bytes."""
    free = shutil.disk_usage(folder).free
    return RunError(f"disk full: need {needed / 1e6:.1f} MB, free {free / 1e6:.1f} MB in {folder}")


def atomic_write(
    path: PathLike, writer: Callable[[BinaryIO], Any], expected_bytes: int = 0
) -> None:
    """Let `writer` fill a stream that becomes `path` only when it is complete and on the disk.

    The folder is made where missing. `expected_bytes`, where known, makes the message of a full
    disk tell the whole need. Raises RunError (disk full) or UserError (not writable).
    """
    path = Path(path)
    _publish(_write_temporary(path, writer, expected_bytes), path)


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


def save_checkpoint(path: PathLike, state: Mapping[str, Any]) -> None:
    """Save tensors and plain containers, with a sidecar `PATH.sha256` (format of sha256sum).

    While `path` is being replaced the sidecar lists the digests of the old and the new file, so
    that whichever of the two a kill leaves is accepted.
    """
    path = Path(path)
    sidecar = _sidecar(path)
    size = sum(t.numel() * t.element_size() for t in _tensors(state))
    digest = hashlib.sha256()
    temporary = _write_temporary(path, lambda f: _save_hashed(dict(state), f, digest), size)
    try:
        known = [digest.hexdigest(), *(_recorded_digests(sidecar)[:1] if path.exists() else [])]
        write_text(sidecar, "".join(f"{d}  {path.name}\n" for d in known))
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _active.discard(temporary)
    if len(known) > 1:
        write_text(sidecar, f"{known[0]}  {path.name}\n")


def load_checkpoint(path: PathLike, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Load what `save_checkpoint` wrote; no code of the file is ever run.

    A tuple `(capture, iteration)`, as the splatting family saves, comes back under these two names.
    Raises DataError where the file is missing, its sha256 differs, or it holds foreign classes.
    """
    path = Path(path)
    _check_digest(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            f"{path}: refused: the checkpoint is damaged or holds more than tensors and plain data"
        ) from None
    except _LOAD_ERRORS as error:
        raise DataError(f"{path}: damaged checkpoint: {str(error).splitlines()[:1]}") from None
    if isinstance(state, tuple) and len(state) == 2:
        return {"capture": state[0], "iteration": state[1]}
    if not isinstance(state, dict):
        raise DataError(f"{path}: expected a checkpoint dictionary, got {type(state).__name__}")
    return state


def newest_good(paths: Iterable[PathLike]) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that is whole, and the newer ones that are not.

    Newer means a higher last number in the name, then a later change. Files without a sidecar are
    judged by loading them. The first value is None where none is good.
    """
    bad = []
    for path in sorted(map(Path, paths), key=_age_key, reverse=True):
        try:
            _check_digest(path)
            if not _sidecar(path).exists():
                load_checkpoint(path)
        except DataError:
            bad.append(path)
        else:
            return path, bad
    return None, bad


def _write_temporary(path: Path, writer: Callable[[BinaryIO], Any], expected: int) -> Path:
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


def _publish(temporary: Path, path: Path) -> None:
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
        if error.errno in _DISK_FULL:
            raise disk_full(path.parent, needed()) from None
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _save_hashed(state: dict[str, Any], stream: BinaryIO, digest: Any) -> None:
    """torch.save that feeds `digest` and lets the stream's own OSError through.

    torch turns such an error into a RuntimeError of its own and loses the reason.
    """
    errors: list[OSError] = []

    class Hashed(io.RawIOBase):
        def write(self, data: Any) -> int:
            try:
                written = stream.write(data)
            except OSError as error:
                errors.append(error)
                raise
            digest.update(data)
            return written

    try:
        torch.save(state, Hashed())  # type: ignore[arg-type]
    except RuntimeError:
        if errors:
            raise errors[0] from None
        raise


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
    return not _process_exists(pid)


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded_digests(sidecar: Path) -> list[str]:
    try:
        text = sidecar.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return []
    return re.findall(r"^[0-9a-f]{64}(?=  )", text, re.MULTILINE)


def _check_digest(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    sidecar = _sidecar(path)
    if not sidecar.exists():
        log.warning("%s has no .sha256 beside it; its content is not verified", path)
        return
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    if digest.hexdigest() not in _recorded_digests(sidecar):
        raise DataError(f"{path}: its sha256 differs from {sidecar.name}; the file is damaged")


def _age_key(path: Path) -> tuple[int, float]:
    numbers = re.findall(r"\d+", path.stem)
    changed = path.stat().st_mtime if path.exists() else 0.0
    return (int(numbers[-1]) if numbers else -1, changed)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
