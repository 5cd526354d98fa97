# SPDX-License-Identifier: Apache-2.0
"""Finds the compiled library, and refuses one that was built for something else."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

LIBRARY = "_native.so"
INFO_FILE = "_build_info.json"
REBUILD = "bash scripts/setup.sh"


def python_tag() -> str:
    """For example cp311."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def source_hash(sources: Path) -> str:
    """Digest of the names and bytes of all files below folder `sources`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in sources.rglob("*") if p.is_file()):
        digest.update(path.relative_to(sources).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def load_library(package: Path) -> dict[str, Any] | None:
    """Load the library in folder `package` and return its build record; None if not built.

    Raises:
        ImportError: it was built for another torch or Python, or does not load; says what to run.
    """
    library = package / LIBRARY
    if not library.is_file():
        return None
    try:
        info: dict[str, Any] = json.loads((package / INFO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportError(
            f"{library.name} has no readable {INFO_FILE} beside it; rebuild: {REBUILD}"
        ) from error
    for name, running in (("torch", torch.__version__), ("python", python_tag())):
        if info.get(name) != running:
            raise ImportError(
                f"{library.name} was built for {name} {info.get(name)}, running {running}; "
                f"rebuild: {REBUILD}"
            )
    sources = package.parent / "csrc"
    if sources.is_dir() and info.get("sources") != source_hash(sources):
        raise ImportError(f"{library.name} is older than {sources}; rebuild: {REBUILD}")
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise ImportError(f"{library.name} does not load ({error}); rebuild: {REBUILD}") from error
    return info
