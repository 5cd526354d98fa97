# SPDX-License-Identifier: Apache-2.0
"""The questions that `setup.sh` asks of an interpreter. Standard library only (and pip's own).

setup_checks.py torch                   exit 0 when an importable torch is in range
setup_checks.py missing FILE...         the requirements of the files that are not met
setup_checks.py nvcc FOLDER             packages that bring a CUDA compiler, where one is wanted
setup_checks.py stamp FOLDER COMPILER   all that a build of the rasterizer depends on, hashed
setup_checks.py stamp_file              where that hash is kept, beside the installed package
setup_checks.py smoke                   blends one splat with every backend; names them
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TORCH_RANGE = ((2, 4), (3, 0))  # tested range, as in setup.py
BUILD_SWITCHES = ("IQGS_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDAHOSTCXX")
SOURCE_SUFFIXES = {".py", ".h", ".hpp", ".inl", ".cpp", ".cu", ".cuh"}


def torch_version() -> str | None:
    """The version of an importable torch that is in range, or None."""
    try:
        import torch
    except (ImportError, OSError):  # OSError: a torch whose libraries do not load
        return None
    major, minor = torch.__version__.split("+")[0].split(".")[:2]
    in_range = TORCH_RANGE[0] <= (int(major), int(minor)) < TORCH_RANGE[1]
    return torch.__version__ if in_range else None


def installed_version(name: str) -> str | None:
    """The installed version of a distribution; opencv with windows counts as opencv too."""
    names = [name, "opencv-python"] if name == "opencv-python-headless" else [name]
    for candidate in names:
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def missing_requirements(files: list[str]) -> Iterator[str]:
    """Requirement lines that the environment does not meet. torch has its own step."""
    from pip._vendor.packaging.requirements import Requirement

    for file in files:
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            text = line.split("#")[0].strip()
            if not text or text.startswith("torch=="):
                continue
            requirement = Requirement(text)
            version = installed_version(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                yield text


def load_build_support(folder: str) -> tuple[ModuleType, ModuleType]:
    """(decision, toolkit): the modules with which the rasterizer's own setup.py decides."""
    sys.path.insert(0, folder)
    try:
        decision = importlib.import_module("build_support.decision")
        return decision, importlib.import_module("build_support.toolkit")
    finally:
        sys.path.remove(folder)


def build_decision(folder: str) -> tuple[Any, Any]:
    """(facts, decision): is CUDA built, with what, for which GPUs.

    SystemExit where IQGS_CUDA or TORCH_CUDA_ARCH_LIST is not valid.
    """
    import torch

    decision, toolkit = load_build_support(folder)
    facts = toolkit.gather_facts(torch, toolkit.find_compiler())
    try:
        return facts, decision.decide(facts)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def wanted_nvcc(folder: str) -> list[str]:
    """pip packages with an nvcc for this torch, where there is a GPU to build for but no nvcc."""
    facts, decided = build_decision(folder)
    wanted = facts.wish == "1" or (facts.wish == "auto" and bool(facts.capabilities))
    if decided.cuda or facts.nvccs or not wanted or facts.torch_cuda is None:
        return []
    return list(load_build_support(folder)[0].pip_packages(facts.torch_cuda))


def build_stamp(folder: str, compiler: str) -> str:
    """Hash of the sources, torch, the interpreter, the compilers and what is decided to build."""
    import torch

    digest = hashlib.sha256()
    root = Path(folder)
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        generated = parts[0] in {"build", "dist"} or path.name.startswith("_build_info")
        if path.suffix in SOURCE_SUFFIXES and not generated:
            digest.update("/".join(parts).encode())
            digest.update(path.read_bytes())
    python = str(sys.implementation.cache_tag)
    facts = [torch.__version__, str(torch.version.cuda), python, compiler]
    facts += [os.environ.get(name, "") for name in BUILD_SWITCHES]
    if (root / "build_support").is_dir():
        facts.append(repr(build_decision(folder)[1]))  # nvcc, its host compiler, the GPUs' code
    digest.update("\n".join(facts).encode())
    return digest.hexdigest()


def smoke() -> str:
    """Blend one splat in the middle of a small picture with every backend that is there."""
    import torch

    from diff_surfel_rasterization import RasterSettings, Surfels, available_backends, rasterize

    splat = {
        "means": torch.tensor([[0.0, 0.0, 2.0]]),
        "scales": torch.full((1, 2), 0.2),
        "rotations": torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        "opacities": torch.tensor([[0.9]]),
        "colors": torch.ones(1, 3),
    }
    settings = RasterSettings(
        width=16,
        height=16,
        fx=16.0,
        fy=16.0,
        cx=8.0,
        cy=8.0,
        world_to_view=torch.eye(4),
        background=torch.zeros(3),
    )
    for backend in available_backends():
        device = "cuda" if backend == "cuda" else "cpu"
        surfels = Surfels(**{name: tensor.to(device) for name, tensor in splat.items()})
        alpha = rasterize(surfels, settings, backend=backend).alpha
        if not 0.8 < float(alpha[0, 8, 8]) < 0.91 or float(alpha[0, 0, 0]) > 1e-3:
            raise SystemExit(f"the {backend} rasterizer blends one splat wrongly: {alpha[0, 8, 8]}")
    return ", ".join(available_backends())


def main(arguments: list[str]) -> int:
    command, *rest = arguments
    if command == "torch":
        version = torch_version()
        if version is not None:
            print(version)
        return int(version is None)
    if command == "missing":
        print("\n".join(missing_requirements(rest)))
    elif command == "nvcc":
        print("\n".join(wanted_nvcc(rest[0])))
    elif command == "stamp":
        print(build_stamp(rest[0], rest[1]))
    elif command == "stamp_file":
        print(Path(sysconfig.get_paths()["purelib"]) / "diff_surfel_rasterization.stamp")
    elif command == "smoke":
        print(smoke())
    else:
        raise SystemExit(f"unknown question: {command}")
    return 0


if __name__ == "__main__":
    # The scripts' own folder must not shadow packages; nothing here imports from it.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    raise SystemExit(main(sys.argv[1:]))
