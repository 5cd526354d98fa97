# SPDX-License-Identifier: Apache-2.0
"""Builds the CUDA sources for the host: the very kernels, their threads run as fibers.

`load_host_operators()` gives `torch.ops.iqgs_surfel_shim`, the operators of the CUDA backend on
CPU tensors. The library is kept in the system's folder for temporary files under a name that
depends on all its sources, so a second run of the tests builds nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

PACKAGE = Path(__file__).resolve().parents[2] / "submodules" / "diff-surfel-rasterization"
SOURCES = PACKAGE / "csrc"
SHIM = Path(__file__).resolve().parent / "cuda_shim"
KERNEL_FLAGS = [
    *("-O2", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
    "-fno-tree-vectorize",  # g++ 12 drops the subtraction of float(x - double(float(x))) with it
]
NAMESPACE = "iqgs_surfel_shim"


def build_script() -> ModuleType:
    """setup.py of the rasterizer, as a module."""
    spec = importlib.util.spec_from_file_location("surfel_setup", PACKAGE / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler() -> str | None:
    """A host compiler, None if there is none."""
    return next(
        (name for name in (os.environ.get("CXX"), "g++") if name and shutil.which(name)), None
    )


def host_jobs(sources: Path, more: tuple[str, ...] = ()) -> dict[Path, list[str]]:
    """Source file -> flags. `sources` is csrc/ or a changed copy, `more` are flags of kernels."""
    include = ["-DIQGS_HOST_SHIM", f"-I{SHIM}"]
    kernels = ["-x", "c++", "-std=c++17", *KERNEL_FLAGS, *more, *include]
    binding = ["-O1", "-fPIC", *include, *build_script().torch_flags(torch)[0]]
    jobs = {path: kernels for path in sorted(sources.rglob("cuda/*.cu"))}
    jobs |= {path: binding for path in sorted(sources.rglob("bindings/cuda_*.cpp"))}
    jobs |= {path: binding for path in sorted(sources.rglob("bindings/schema.cpp"))}
    jobs[sources / "cpu" / "memory_pool.cpp"] = kernels
    jobs[SHIM / "cuda_shim.cpp"] = kernels
    return jobs


def build(
    sources: Path,
    folder: Path,
    only: list[Path] | None = None,
    more: tuple[str, ...] = (),
) -> Path:
    """Compile and link `sources` into `folder`; returns the library.

    With `only` the other objects are those of the library of the sources as they are. `more` are
    further flags for what is compiled as kernels.
    """
    jobs = host_jobs(sources, more)
    command = compiler()
    assert command is not None
    others = None if only is None else cached_library().parent

    def compile_one(job: tuple[Path, list[str]]) -> Path:
        source, flags = job
        inside = source.relative_to(sources if source.is_relative_to(sources) else SHIM)
        name = f"{'_'.join(inside.parts)}.o"
        if only is not None and others is not None and source not in only:
            return others / name
        target = folder / name
        run([command, *flags, "-c", str(source), "-o", str(target)])
        return target

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, jobs.items()))
    library = folder / "shim.so"
    link = [*build_script().torch_flags(torch)[1], *more]
    run([command, "-shared", *map(str, objects), *link, "-o", str(library)])
    return library


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"


def cached_library() -> Path:
    """The library of the sources as they are, built where it is not there yet."""
    digest = hashlib.sha256(f"{torch.__version__} {compiler()} {KERNEL_FLAGS}".encode())
    for root in (SOURCES, SHIM):
        for path in sorted(root.rglob("*.*")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"iqgs-cuda-shim-{digest.hexdigest()[:16]}"
    library = folder / "shim.so"
    if not library.exists():
        beside = folder.with_name(f"{folder.name}.{os.getpid()}")
        build(SOURCES, beside)
        if folder.exists():
            shutil.rmtree(beside)
        else:
            beside.rename(folder)
    return library


_libraries: dict[str, ctypes.CDLL] = {}
_failures: list[AssertionError] = []  # what does not compile once is not tried for every test


def load_host_operators() -> Any:
    """`torch.ops.iqgs_surfel_shim`; built on first use."""
    if _failures:
        raise _failures[0]
    if not _libraries:
        try:
            library = cached_library()
        except AssertionError as error:
            _failures.append(error)
            raise
        torch.ops.load_library(str(library))
        _libraries["shim"] = ctypes.CDLL(str(library))
    return getattr(torch.ops, NAMESPACE)


@contextmanager
def reversed_schedule() -> Iterator[None]:
    """Blocks, warps and lanes are taken in the opposite order."""
    load_host_operators()
    _libraries["shim"].cuda_shim_reverse(1)
    try:
        yield
    finally:
        _libraries["shim"].cuda_shim_reverse(0)
