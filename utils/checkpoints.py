# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are complete or absent, that prove it, and that never run code when read."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from utils.errors import DataError
from utils.storage import PathLike, give_up, publish, write_temporary, write_text

log = logging.getLogger(__name__)

# What torch.load is known to raise on damaged bytes, beside its own refusal of foreign classes.
_LOAD_ERRORS = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, MemoryError),
    *(AttributeError, AssertionError, ImportError, ArithmeticError),
)


def save_checkpoint(path: PathLike, state: Mapping[str, Any]) -> None:
    """Save tensors and plain containers, with a sidecar `PATH.sha256` (format of sha256sum).

    While `path` is being replaced the sidecar lists the digests of the old and the new file, so
    that whichever of the two a kill leaves is accepted.
    """
    path = Path(path)
    sidecar = _sidecar(path)
    size = sum(t.numel() * t.element_size() for t in _tensors(state))
    digest = hashlib.sha256()
    temporary = write_temporary(path, lambda f: _save_hashed(dict(state), f, digest), size)
    try:
        # All of them: after a kill right here the last one, and not the first, is the file's.
        known = [digest.hexdigest(), *(_recorded_digests(sidecar) if path.exists() else [])]
        write_text(sidecar, "".join(f"{d}  {path.name}\n" for d in known))
        publish(temporary, path)
    finally:
        give_up(temporary)
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
