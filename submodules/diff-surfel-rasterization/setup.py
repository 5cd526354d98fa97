# SPDX-License-Identifier: Apache-2.0
"""Builds the rasterizer: kernels without torch per instruction set, and one file that binds them.

Environment: IQGS_CUDA=auto|0|1, CXX, MAX_JOBS (default: by cores and memory, 2 GB a process).
Without a C++ compiler the Python package is installed alone and its torch reference serves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NAME = "diff_surfel_rasterization"
ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "csrc"

# -ffp-contract=off: forward and backward must round alike, so the kernels fuse by name only.
OPTIMIZE = ["-O3", "-fPIC", "-fvisibility=hidden", "-DNDEBUG"]
KERNEL = [*OPTIMIZE, "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
INSTRUCTION_SETS = {
    "kernels_avx512.cpp": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", *AVX2],
    "kernels_avx2.cpp": AVX2,
    "kernels_baseline.cpp": [],
}
GIGABYTES_PER_PROCESS = 2


def say(message: str) -> None:
    print(f"{NAME}: {message}", flush=True)


def import_torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise SystemExit(
            f"{NAME}: building needs torch in this very environment. Run:\n"
            "  pip install torch setuptools wheel\n"
            f"  pip install --no-build-isolation {shlex.quote(str(ROOT))}"
        ) from None
    return torch


def check_cuda_wish(torch: ModuleType) -> None:
    """Say in one line which backends are built; stop where CUDA is demanded and impossible."""
    wish = os.environ.get("IQGS_CUDA", "auto")
    if wish not in ("auto", "0", "1"):
        raise SystemExit(f"{NAME}: IQGS_CUDA must be auto, 0 or 1, got {wish!r}")
    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} has no CUDA"
    else:
        reason = "the CUDA backend does not exist yet, the CPU backend is used"
    if wish == "1":
        raise SystemExit(f"{NAME}: IQGS_CUDA=1 is not possible: {reason}; use IQGS_CUDA=auto")
    say(f"CPU only ({'IQGS_CUDA=0' if wish == '0' else reason})")


def find_compiler() -> list[str] | None:
    """The command of a GCC-compatible C++ compiler, None if there is none."""
    configured = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or ""
    for command in (configured, "g++", "c++", "clang++"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


def count_jobs() -> int:
    wish = os.environ.get("MAX_JOBS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    jobs = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        jobs = len(os.sched_getaffinity(0))
    try:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return jobs
    return max(1, min(jobs, memory // (GIGABYTES_PER_PROCESS << 30)))


def build_helpers() -> ModuleType:
    """The package's own module of names and hashes, loaded without importing the package."""
    path = ROOT / NAME / "native_build.py"
    spec = importlib.util.spec_from_file_location("native_build", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{NAME}: {path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_flags(torch: ModuleType) -> tuple[list[str], list[str]]:
    """Flags to compile against this torch and to link with it."""
    folder = Path(torch.__file__).parent
    # Newer torch needs newer C++ than older compilers default to: take what it uses itself.
    text = (folder / "utils" / "cpp_extension.py").read_text(encoding="utf-8")
    standard = max(re.findall(r"-std=c\+\+(\d\d)", text), default="17")
    include = folder / "include"
    compile_flags = [
        f"-std=c++{standard}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}",
    ]
    return compile_flags, [f"-L{folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]


def compile_jobs(torch: ModuleType) -> dict[Path, list[str]]:
    """Source file -> flags."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    jobs: dict[Path, list[str]] = {}
    for source in sorted((SOURCES / "cpu").glob("*.cpp")):
        if source.name in INSTRUCTION_SETS:
            if x86 or not INSTRUCTION_SETS[source.name]:
                jobs[source] = KERNEL + INSTRUCTION_SETS[source.name]
        else:
            jobs[source] = KERNEL + (["-DIQGS_X86_KERNELS"] if x86 else [])
    for source in sorted((SOURCES / "bindings").glob("*.cpp")):
        if not source.name.startswith("cuda_"):
            jobs[source] = OPTIMIZE + torch_flags(torch)[0]
    return jobs


def run_tool(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise SystemExit(f"{NAME}: this command failed:\n  {shlex.join(command)}\n{tail}")


class BuildNative(build_ext):
    """Compiles and links by hand: every file has its own flags, and no pybind is involved."""

    def run(self) -> None:
        torch = import_torch()
        check_cuda_wish(torch)
        compiler = find_compiler()
        if compiler is None or sys.platform == "win32":
            say("no C++ compiler found: only the slow torch reference is installed")
            return
        helpers = build_helpers()
        info = {
            "torch": torch.__version__,
            "python": helpers.python_tag(),
            "sources": helpers.source_hash(SOURCES),
            "cuda": False,
        }
        base = ROOT if self.inplace else Path(self.build_lib)
        folder = base / NAME
        folder.mkdir(parents=True, exist_ok=True)
        library = self.build_library(torch, compiler, helpers.LIBRARY)
        self.replace(library, folder / helpers.LIBRARY)
        record = library.with_name(helpers.INFO_FILE)
        record.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        self.replace(record, folder / helpers.INFO_FILE)

    def build_library(self, torch: ModuleType, compiler: list[str], name: str) -> Path:
        work = Path(self.build_temp).resolve()
        work.mkdir(parents=True, exist_ok=True)
        jobs = compile_jobs(torch)
        objects = {source: work / f"{source.parent.name}_{source.stem}.o" for source in jobs}
        commands = [
            [*compiler, *flags, "-c", str(source), "-o", str(objects[source])]
            for source, flags in jobs.items()
        ]
        with ThreadPoolExecutor(count_jobs()) as pool:
            list(pool.map(run_tool, commands))
        shared = ["-dynamiclib"] if sys.platform == "darwin" else ["-shared"]
        inputs = [str(path) for path in objects.values()]
        output = work / name
        link = [*torch_flags(torch)[1], "-pthread", "-o", str(output)]
        run_tool([*compiler, *shared, *inputs, *link])
        return output

    @staticmethod
    def replace(source: Path, target: Path) -> None:
        """Copy so that a process that imports the package meets the old file or the new one."""
        beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(source, beside)
        os.replace(beside, target)

    def get_outputs(self) -> list[str]:
        helpers = build_helpers()
        folder = Path(self.build_lib) / NAME
        names = (helpers.LIBRARY, helpers.INFO_FILE)
        return [str(folder / name) for name in names if (folder / name).exists()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


if __name__ == "__main__":
    setup(
        name=NAME,
        version="0.1.0",
        description="Differentiable rasterizer of flat Gaussians with any number of channels",
        license="Apache-2.0",
        python_requires=">=3.10",
        packages=[NAME],
        # Names no source: BuildNative finds them. Makes the wheel one of this platform.
        ext_modules=[Extension(f"{NAME}._native", sources=[])],
        cmdclass={"build_ext": BuildNative},
        zip_safe=False,
    )
