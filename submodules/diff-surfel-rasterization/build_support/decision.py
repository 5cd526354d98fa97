# SPDX-License-Identifier: Apache-2.0
"""Whether the CUDA kernels are built, with what, and why not. Pure: facts in, decision out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .archs import ArchError, Capability, choose_archs, parse_archs, target_names

Version = tuple[int, ...]
VersionRange = tuple[Version, Version]  # lowest, first that is too new
WISHES = ("auto", "0", "1")
SETUP = "bash scripts/setup.sh"
FIRST_WITH_PIP_NVCC = 13  # from CUDA 13 on nvidia's pip packages hold a whole compiler


@dataclass(frozen=True)
class Nvcc:
    """A CUDA compiler and the folder that has libcudart_static.a (None: it is not there)."""

    command: str
    version: Version  # (13, 0)
    archs: tuple[int, ...]  # 75, 80, ...
    library_folder: Path | None
    newest_gcc: int | None = None  # by its own header, None where that says nothing


@dataclass(frozen=True)
class Host:
    """A C++ compiler that nvcc may call."""

    command: str
    kind: str  # gcc | clang
    version: Version


@dataclass(frozen=True)
class Facts:
    """Everything that the decision depends on."""

    wish: str  # IQGS_CUDA
    torch: str  # its version
    torch_cuda: str | None  # torch.version.cuda
    nvccs: tuple[Nvcc, ...] = ()  # in the order of preference
    hosts: tuple[Host, ...] = ()
    # kind -> CUDA version -> range, as torch.utils.cpp_extension has it
    bounds: Mapping[str, Mapping[str, VersionRange]] = field(default_factory=dict)
    arch_list: str = ""  # TORCH_CUDA_ARCH_LIST
    capabilities: tuple[Capability, ...] = ()  # of the visible GPUs
    has_compiler: bool = True  # for the files that are not CUDA


@dataclass(frozen=True)
class Decision:
    """`cuda` or not; `reason` says why, `remedy` what would change it."""

    cuda: bool
    reason: str
    remedy: str = ""
    nvcc: Nvcc | None = None
    host: Host | None = None
    targets: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The one line that the user sees."""
        if self.nvcc is None or not self.cuda:
            return f"CPU only ({self.reason})"
        return (
            f"CPU and CUDA {dotted(self.nvcc.version)} for {' '.join(self.targets)} ({self.reason})"
        )


class WishError(ValueError):
    """IQGS_CUDA is set to something else than auto, 0 or 1."""


def dotted(version: Version) -> str:
    """(13, 0) -> "13.0"."""
    return ".".join(map(str, version))


def decide(facts: Facts) -> Decision:
    """What to build. Raises WishError, ArchError."""
    if facts.wish not in WISHES:
        raise WishError(f"IQGS_CUDA must be auto, 0 or 1, got {facts.wish!r}")
    if facts.arch_list:
        parse_archs(facts.arch_list)  # a slip of the pen is an error whatever is built
    if facts.wish == "0":
        return Decision(False, "IQGS_CUDA=0", f"IQGS_CUDA=auto {SETUP}")
    if facts.torch_cuda is None:
        return Decision(
            False,
            f"torch {facts.torch} has no CUDA",
            f"install a torch with CUDA (pip install torch), then {SETUP}",
        )
    if not facts.has_compiler:
        remedy = f"apt install g++ python3-dev, then {SETUP}"
        return Decision(False, "there is no C++ compiler", remedy)
    nvcc = next((n for n in facts.nvccs if n.version[0] == _major(facts.torch_cuda)), None)
    return _without_nvcc(facts, facts.torch_cuda) if nvcc is None else _decide_with(facts, nvcc)


def _decide_with(facts: Facts, nvcc: Nvcc) -> Decision:
    name = f"{nvcc.command} {dotted(nvcc.version)}"
    if nvcc.library_folder is None:
        return Decision(
            False,
            f"{name} has no libcudart_static.a",
            f"install the CUDA runtime's development files, then {SETUP}",
        )
    host = next((h for h in facts.hosts if _within(h, nvcc, facts.bounds)), None)
    if host is None:
        return _without_host(facts, nvcc)
    try:
        archs, left_out = choose_archs(facts.arch_list, facts.capabilities, nvcc.archs)
    except ArchError as error:
        return Decision(False, str(error), f"TORCH_CUDA_ARCH_LIST=8.6 {SETUP}, or unset it")
    reason = f"torch {facts.torch}, {name}, {host.kind} {dotted(host.version)}"
    if left_out:
        reason += f"; not for {', '.join(left_out)}: unknown to nvcc or the kernels"
    return Decision(True, reason, "", nvcc, host, tuple(target_names(archs)))


def _major(version: str) -> int:
    return int(version.split(".")[0])


def pip_packages(torch_cuda: str) -> tuple[str, ...]:
    """nvidia's pip packages that hold a compiler for this CUDA; none before CUDA 13."""
    if _major(torch_cuda) < FIRST_WITH_PIP_NVCC:
        return ()
    names = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-cccl")
    return tuple(f"{name}=={torch_cuda}.*" for name in names)


def _without_nvcc(facts: Facts, torch_cuda: str) -> Decision:
    install = f"install the CUDA toolkit {torch_cuda}"
    packages = pip_packages(torch_cuda)
    if packages:
        install += f" or pip install {' '.join(packages)}"
    if not facts.nvccs:
        return Decision(
            False,
            f"torch {facts.torch} has CUDA {torch_cuda}, but no nvcc is found",
            f"{install}, or name a toolkit's folder with CUDA_HOME; then {SETUP}",
        )
    found = ", ".join(f"{n.command} is {dotted(n.version)}" for n in facts.nvccs)
    return Decision(
        False,
        f"torch {facts.torch} has CUDA {torch_cuda}, but {found}",
        f"{install} and name its folder with CUDA_HOME, or install a torch for the CUDA that is "
        f"there; then {SETUP}",
    )


def host_range(
    nvcc: Nvcc, kind: str, bounds: Mapping[str, Mapping[str, VersionRange]]
) -> VersionRange | None:
    """The host compilers that an nvcc takes: torch's table, else nvcc's own header."""
    known = bounds.get(kind, {}).get(dotted(nvcc.version[:2]))
    if known is None and kind == "gcc" and nvcc.newest_gcc is not None:
        return (0,), (nvcc.newest_gcc + 1,)
    return known


def _within(host: Host, nvcc: Nvcc, bounds: Mapping[str, Mapping[str, VersionRange]]) -> bool:
    allowed = host_range(nvcc, host.kind, bounds)
    return allowed is None or allowed[0] <= host.version < allowed[1]


def _without_host(facts: Facts, nvcc: Nvcc) -> Decision:
    name = f"nvcc {dotted(nvcc.version)}"
    allowed = host_range(nvcc, "gcc", facts.bounds)
    newest = "g++" if allowed is None else f"g++-{_newest_major(allowed[1])}"
    found = ", ".join(f"{h.command} {dotted(h.version)}" for h in facts.hosts) or "none"
    wanted = "" if allowed is None else f" (it takes gcc below {dotted(allowed[1])})"
    return Decision(
        False,
        f"{name} does not take the C++ compilers that are found: {found}{wanted}",
        f"apt install {newest}, or name one with CUDAHOSTCXX; then {SETUP}",
    )


def _newest_major(below: Version) -> int:
    """The newest major version below a bound: (16, 0) -> 15, (14, 3) -> 14."""
    return below[0] if any(below[1:]) else below[0] - 1
