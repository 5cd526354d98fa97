# SPDX-License-Identifier: Apache-2.0
"""Finds the torch to build for, also where pip has put the build into an environment of its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

# Where the interpreter itself, without pip's PYTHONPATH, would import torch from.
ASK = """
import importlib.util, os
found = importlib.util.find_spec("torch")
print(os.path.dirname(os.path.dirname(found.origin)) if found and found.origin else "")
"""


def folder_outside() -> str | None:
    """The folder that holds the torch of this interpreter's own environment, None without one."""
    # -E: without the PYTHONPATH and PYTHONNOUSERSITE of the isolated build. From the root folder,
    # so that no folder named torch here is taken for it.
    done = subprocess.run(
        [sys.executable, "-E", "-c", ASK], cwd="/", capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def import_torch(name: str) -> ModuleType:
    """The torch that `name` will run with. SystemExit with one sentence where there is none."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        folder = folder_outside()
    if folder is None:
        raise SystemExit(
            f"{name}: {sys.executable} has no torch, and the library is built for the torch that "
            f"it runs with; run {sys.executable} -m pip install torch and install this again (a "
            "tool that builds in an environment of its own, as uv and build do, needs "
            "--no-build-isolation)"
        )
    sys.path.append(folder)  # last: the build's own tools come first
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise SystemExit(
            f"{name}: the torch in {folder} cannot be imported here ({error}); add "
            "--no-build-isolation"
        ) from None
