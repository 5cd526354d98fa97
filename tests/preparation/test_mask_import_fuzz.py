# SPDX-License-Identifier: Apache-2.0
"""Exports with bytes changed at random: they are read, or refused in one sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from utils.errors import IQGSError

from .import_cases import BY_LABEL, FRESH, WITH_TRACKS, imported

TRIALS = int(os.environ.get("IQGS_FUZZ_TRIALS", "6"))  # of each kind
WRITERS = {**WITH_TRACKS, **{f"{kind} by label": BY_LABEL[kind] for kind in BY_LABEL}, **FRESH}


def spoiled(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, doubled, digits changed or bytes changed."""
    place = int(rng.integers(0, len(data)))
    kind = rng.integers(0, 4)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place // 2 :]
    changed = bytearray(data)
    if kind == 2:
        digits = [k for k, byte in enumerate(data) if 48 <= byte < 58] or [place]
        for _ in range(3):
            changed[int(rng.choice(digits))] = int(rng.choice(list(b"0129-.e")))
    else:
        for _ in range(3):
            changed[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
    return bytes(changed)


@pytest.mark.parametrize("kind", WRITERS)
def test_random_damage(scene: Path, folder: Path, kind: str) -> None:
    WRITERS[kind](folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    good = {path: path.read_bytes() for path in files}
    rng = np.random.default_rng(len(kind))
    for _ in range(TRIALS):
        victim = files[int(rng.integers(0, len(files)))]
        victim.write_bytes(spoiled(good[victim], rng))
        try:
            imported(scene, folder, overwrite=True)
        except IQGSError as error:
            assert str(error) and "\n" not in str(error)
        victim.write_bytes(good[victim])
    shutil.rmtree(folder)
