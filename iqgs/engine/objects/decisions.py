# SPDX-License-Identifier: Apache-2.0
"""Decisions of edits that are too large for a line: arrays in files named by their content."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqgs.engine.run_folder import EDITS_FOLDER
from iqgs.objects.edits import Clean, Edit, Parts
from utils.errors import DataError
from utils.storage import atomic_write


def write_decisions(
    folder: Path, kind: str, arrays: Mapping[str, NDArray[np.generic]]
) -> tuple[str, str]:
    """Write arrays into a run's folder; returns the file's name in it, and its sha256.

    The same decisions have the same name, so that nothing is overwritten by something else.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]
    data = stream.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{EDITS_FOLDER}/{kind}-{digest[:12]}.npz"
    atomic_write(folder / name, lambda file: file.write(data), len(data))
    return name, digest


def read_decisions(folder: Path, edit: Clean | Parts) -> dict[str, NDArray[np.generic]]:
    """The arrays that an edit names. DataError where they are missing or were changed."""
    path = folder / edit.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); an edit needs it") from None
    if hashlib.sha256(data).hexdigest() != edit.sha256:
        raise DataError(f"{path}: is not the file that the edit names; `undo` that edit")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def forget_unused(folder: Path, edits: Sequence[Edit]) -> None:
    """Remove the decisions that no edit names any more."""
    used = {edit.file for edit in edits if isinstance(edit, Clean | Parts)}
    for path in (folder / EDITS_FOLDER).glob("*-*.npz"):
        if f"{EDITS_FOLDER}/{path.name}" not in used:
            path.unlink(missing_ok=True)
    if (folder / EDITS_FOLDER).is_dir() and not any((folder / EDITS_FOLDER).iterdir()):
        (folder / EDITS_FOLDER).rmdir()
