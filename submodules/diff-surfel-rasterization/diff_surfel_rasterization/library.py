# SPDX-License-Identifier: Apache-2.0
"""Finds the compiled library, and refuses one that was built for something else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

LIBRARY = "_native.so"
INFO_FILE = "_build_info.json"
REBUILD = "bash scripts/setup.sh"
LOADING = 8 << 20  # bytes of address space that loading takes at most; 3 MB were seen


def source_hash(sources: Path) -> str:
    """Digest of the names and bytes of all files below folder `sources`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in sources.rglob("*") if p.is_file()):
        digest.update(path.relative_to(sources).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _release(version: object) -> str:
    """2.13.0+cpu -> 2.13.0."""
    return str(version).split("+")[0]


def mismatch(info: Mapping[str, Any]) -> str | None:
    """What the library was built for that is not running here; None if it fits.

    The interpreter is no part of it: the library uses none of its symbols. Nor is torch's CUDA
    where no kernel for it is inside: a release of torch has one interface with and without it.
    """
    built, running = info.get("torch"), torch.__version__
    if _release(built) != _release(running):
        return f"was built for torch {built or 'none'}, running {running}"
    cuda: str | None = torch.version.cuda
    if info.get("cuda") and info.get("torch_cuda") != cuda:
        return f"was built for torch with CUDA {info.get('torch_cuda')}, running {cuda or 'none'}"
    return None


def _read_info(package: Path) -> dict[str, Any]:
    """The build record in folder `package`."""
    try:
        info: dict[str, Any] = json.loads((package / INFO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportError(
            f"{LIBRARY} has no readable {INFO_FILE} beside it; rebuild: {REBUILD}"
        ) from error
    return info


def _loaded_twin(library: Path) -> Path | None:
    """Another copy's library that the process has loaded: the operators are registered once."""
    loaded = (Path(path) for path in torch.ops.loaded_libraries)
    others = (path for path in loaded if path.name == LIBRARY and path != library.resolve())
    return next((path for path in others if (path.parent / INFO_FILE).is_file()), None)


def require_room() -> None:
    """MemoryError where the library cannot be loaded for lack of memory.

    Where memory ends half way, torch's registration of the operators aborts the process; and a
    library that does not load is replaced by the reference, which has other bits.
    """
    try:
        bytes(LOADING)  # granted, but never touched
    except MemoryError:
        raise MemoryError(f"no memory to load {LIBRARY}") from None


def load_library(package: Path) -> dict[str, Any] | None:
    """Load the library in folder `package` and return its build record; None if not built.

    Raises:
        ImportError: it was built for another torch or CUDA, or does not load; says what
            to run.
        MemoryError: there is no room to load it.
    """
    library = package / LIBRARY
    if not library.is_file():
        return None
    info = _read_info(package)
    problem = mismatch(info)
    if problem is not None:
        raise ImportError(f"{library.name} {problem}; rebuild: {REBUILD}")
    sources = package.parent / "csrc"
    if sources.is_dir() and info.get("sources") != source_hash(sources):
        raise ImportError(f"{library.name} is older than {sources}; rebuild: {REBUILD}")
    twin = _loaded_twin(library)
    if twin is not None:
        if _read_info(twin.parent).get("sources") == info.get("sources"):
            return info
        raise ImportError(
            f"{library} cannot be used beside {twin}, which this process has loaded and which was "
            "built from other sources; install both from one version of them"
        )
    require_room()
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        if "failed to map" in str(error) or "allocate memory" in str(error):
            raise MemoryError(f"no memory to load {library.name} ({error})") from error
        raise ImportError(f"{library.name} does not load ({error}); rebuild: {REBUILD}") from error
    return info


def runs_on(targets: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether code for `targets` ("sm_80", "sm_90a", "compute_90") runs on a GPU.

    Machine code runs on its own family from its own chip on, portable code on every later chip;
    suffix a means this chip only, f this family only.
    """
    major, minor = capability
    for target in targets:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", target)
        if found is None:
            continue
        kind, built, suffix = found[1], (int(found[2]), int(found[3])), found[4]
        same_family = built[0] == major and built[1] <= minor
        if suffix == "a":
            fits = built == capability
        elif kind == "sm" or suffix == "f":
            fits = same_family
        else:
            fits = built <= (major, minor)
        if fits:
            return True
    return False


def cuda_problem(info: Mapping[str, Any], device: torch.device | None = None) -> str | None:
    """Why a library with this record cannot work on a GPU (None: the current one), and what to do.

    None if it can.
    """
    if not info.get("cuda"):
        reason = info.get("reason") or "its record does not say why"
        remedy = info.get("remedy") or REBUILD
        if info.get("torch_cuda") != torch.version.cuda:
            reason = f"for torch {info.get('torch')}, running {torch.__version__}"
            remedy = f"rebuild: {REBUILD}"
        return f"the rasterizer was built for the CPU only ({reason}); {remedy}"
    if not torch.cuda.is_available():
        return "torch sees no GPU (its driver, CUDA_VISIBLE_DEVICES)"
    capability = torch.cuda.get_device_capability(device)
    archs = list(info.get("archs", []))
    if runs_on(archs, capability):
        return None
    wanted = ".".join(map(str, capability))
    return (
        f"there is no kernel image for {torch.cuda.get_device_name(device)} (compute capability "
        f"{wanted}), the build has {', '.join(archs)}; rebuild: "
        f"TORCH_CUDA_ARCH_LIST={wanted} {REBUILD}"
    )
