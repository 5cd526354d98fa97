# SPDX-License-Identifier: Apache-2.0
"""Compressed splat files through PlayCanvas' `splat-transform`, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from arguments.exporting import PACKED
from iqgs.export.frames import UprightFrame
from iqgs.export.ply import write_ply
from iqgs.export.record import SplatArrays
from utils.errors import RunError, UserError
from utils.storage import atomic_write, write_text

PROGRAM = "splat-transform"
PACKAGE = "@playcanvas/splat-transform"
# What it writes as one file; none of them but .csv has a place for the objects.
SUFFIXES = tuple(f".{name}" for name in PACKED)
_LAST_LINES = 3  # of what the program says where it fails


def convert(path: Path, splats: SplatArrays) -> None:
    """Write splats in the format of the suffix of `path`, atomically.

    These have no place for the frame, which is written beside it, into `NAME.SUFFIX.json`.
    Raises UserError where the program is missing, RunError where it fails.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(
            f"{path}: this format is written by {PROGRAM}, which is not on the PATH: "
            f"npm install -g {PACKAGE} (it asks for Node 22)"
        )
    suffix = next(s for s in SUFFIXES if path.name.lower().endswith(s))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "splats.ply"), Path(folder, f"out{suffix}")
        write_ply(source, splats, as_3dgs=True)
        # Compressing on the CPU: a GPU is not everywhere, and not needed at this size.
        command = [program, "-q", "-w", "-g", "cpu", str(source), str(target)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode or not target.is_file():
            said = " ".join((finished.stderr or finished.stdout).split("\n")[-_LAST_LINES:]).strip()
            raise RunError(f"{path}: {PROGRAM} failed ({finished.returncode}): {said}")
        with open(target, "rb") as stream:
            atomic_write(path, lambda out: shutil.copyfileobj(stream, out), target.stat().st_size)
    frame = UprightFrame.of_viewers(splats.frame).described()
    write_text(path.with_name(f"{path.name}.json"), json.dumps({"frame": frame}, indent=1) + "\n")
