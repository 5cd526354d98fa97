# SPDX-License-Identifier: Apache-2.0
"""Looks at this machine: CUDA compilers, host compilers, torch. Gathers the facts to decide by."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .archs import Capability
from .decision import Facts, Host, Nvcc, Version, VersionRange

RUNTIME = "libcudart_static.a"
LAUNCHERS = {"ccache", "sccache", "distcc"}  # may stand before the compiler in CXX
NEWEST_GCC, OLDEST_GCC = 20, 7
QUESTION_SECONDS = 60


def ask(*command: str) -> str | None:
    """What a program says, both streams; None if it fails or is not there."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=QUESTION_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr if done.returncode == 0 else None


def find_compiler() -> list[str] | None:
    """The command of a GCC-compatible C++ compiler, None if there is none."""
    configured = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or ""
    for command in (configured, "g++", "c++", "clang++"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


def compiler_identity(command: list[str]) -> str:
    """What a compiler calls itself: objects of another one are not kept."""
    return (ask(*command, "--version") or "").strip()


def nvcc_candidates() -> Iterator[str]:
    """Places of nvcc, those that the user names first."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield str(Path(os.environ[name]) / "bin" / "nvcc")
    on_path = shutil.which("nvcc")
    if on_path:
        yield on_path
    yield "/usr/local/cuda/bin/nvcc"
    versions = sorted(Path("/usr/local").glob("cuda-*"), key=_version_key, reverse=True)
    yield from (str(folder / "bin" / "nvcc") for folder in versions)
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    yield from (str(path) for path in sorted(packages.glob("*/bin/nvcc"), reverse=True))


def _version_key(folder: Path) -> Version:
    return tuple(map(int, re.findall(r"\d+", folder.name)))


def find_nvccs() -> tuple[Nvcc, ...]:
    """All CUDA compilers that answer, each version once, in the order of `nvcc_candidates`."""
    found: dict[Version, Nvcc] = {}
    for command in dict.fromkeys(nvcc_candidates()):
        nvcc = describe_nvcc(command) if os.access(command, os.X_OK) else None
        if nvcc is not None:
            found.setdefault(nvcc.version, nvcc)
    return tuple(found.values())


def describe_nvcc(command: str) -> Nvcc | None:
    """Version, architectures and folders by the compiler's own word; None if it does not run."""
    release = re.search(r"release (\d+)\.(\d+)", ask(command, "--version") or "")
    archs = re.findall(r"compute_(\d+)\b", ask(command, "--list-gpu-arch") or "")
    # The folders as it would use them: `command` may be a link, or a script that starts another.
    plan = ask(command, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull) or ""
    if release is None or not archs or not plan:
        return None
    top = re.search(r"^#\$ TOP=(.+)$", plan, re.MULTILINE)
    root = Path(top[1]) if top else Path(command).resolve().parents[1]
    libraries = [Path(folder) for folder in re.findall(r'"-L([^"]+)"', plan)]
    libraries += [root / "lib64", root / "lib"]
    includes = [Path(folder) for folder in re.findall(r'"-I([^"]+)"', plan)]
    includes.append(root / "include")
    folder = next((f.resolve() for f in libraries if (f / RUNTIME).is_file()), None)
    header = next((i / "crt" / "host_config.h" for i in includes if (i / "crt").is_dir()), None)
    return Nvcc(
        command,
        (int(release[1]), int(release[2])),
        tuple(sorted(map(int, archs))),
        folder,
        None if header is None else _newest_gcc(header),
    )


def _newest_gcc(header: Path) -> int | None:
    try:
        found = re.search(r"__GNUC__ > (\d+)", header.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return int(found[1]) if found else None


def describe_host(command: str) -> Host | None:
    """A host compiler by its own word; None if it does not run."""
    path = shutil.which(command)
    if path is None:
        return None
    version = re.search(r"(\d+(?:\.\d+)*)", ask(path, "-dumpfullversion", "-dumpversion") or "")
    if version is None:
        return None
    kind = "clang" if "clang" in (ask(path, "--version") or "") else "gcc"
    return Host(path, kind, tuple(map(int, version[1].split("."))))


def find_hosts(compiler: list[str]) -> tuple[Host, ...]:
    """What nvcc may call: the user's choice alone, else CXX and then g++-N, newest first."""
    chosen = os.environ.get("CUDAHOSTCXX") or os.environ.get("NVCC_CCBIN")
    if chosen:
        names = [chosen]
    else:
        plain = [word for word in compiler if Path(word).name not in LAUNCHERS]
        names = [plain[0]] if plain else []
        names += [f"g++-{number}" for number in range(NEWEST_GCC, OLDEST_GCC - 1, -1)]
    hosts = (describe_host(name) for name in names)
    return tuple({host.command: host for host in hosts if host is not None}.values())


def torch_bounds() -> dict[str, Mapping[str, VersionRange]]:
    """Which host compilers torch allows for which CUDA; empty where it keeps no such table."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is no GPU
        try:
            from torch.utils import cpp_extension
        except (ImportError, OSError):
            return {}
    tables = {"gcc": "CUDA_GCC_VERSIONS", "clang": "CUDA_CLANG_VERSIONS"}
    return {kind: getattr(cpp_extension, name, {}) for kind, name in tables.items()}


def visible_capabilities(torch: Any) -> tuple[Capability, ...]:
    """Compute capabilities of the GPUs that torch sees; none is fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            count = torch.cuda.device_count() if torch.version.cuda else 0
            return tuple(torch.cuda.get_device_capability(i) for i in range(count))
        except (RuntimeError, AssertionError):  # a driver that does not fit
            return ()


def gather_facts(torch: ModuleType, compiler: list[str] | None) -> Facts:
    """The facts of this machine; asks no more than the decision needs."""
    wish = os.environ.get("IQGS_CUDA") or "auto"
    version: Any = torch.version
    if wish == "0" or version.cuda is None or compiler is None:
        return Facts(wish, torch.__version__, version.cuda, has_compiler=compiler is not None)
    return Facts(
        wish,
        torch.__version__,
        version.cuda,
        find_nvccs(),
        find_hosts(compiler),
        torch_bounds(),
        os.environ.get("TORCH_CUDA_ARCH_LIST", ""),
        visible_capabilities(torch),
    )
