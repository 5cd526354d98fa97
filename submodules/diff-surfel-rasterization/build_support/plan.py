# SPDX-License-Identifier: Apache-2.0
"""Which file is compiled how, and how the objects are linked."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from types import ModuleType

from .archs import gencode_flags
from .compiling import Job
from .decision import Decision, dotted
from .toolkit import RUNTIME, compiler_identity

# -ffp-contract=off: forward and backward must round alike, so the kernels fuse by name only.
OPTIMIZE = ["-O3", "-fPIC", "-fvisibility=hidden", "-DNDEBUG"]
KERNEL = [*OPTIMIZE, "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
INSTRUCTION_SETS = {
    "kernels_avx512.cpp": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", *AVX2],
    "kernels_avx2.cpp": AVX2,
    "kernels_baseline.cpp": [],
}
# --fmad=false: the same rule as above on the GPU.
CUDA = ["-std=c++17", "-O3", "--fmad=false", "-DNDEBUG", "-Xcompiler=-fPIC,-fvisibility=hidden"]


def torch_flags(torch: ModuleType) -> tuple[list[str], list[str]]:
    """Flags to compile against this torch and to link with it."""
    folder = Path(str(torch.__file__)).parent
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


def host_jobs(
    sources: Path, work: Path, torch: ModuleType, compiler: list[str], cuda: bool
) -> list[Job]:
    """Kernels of the CPU, and the bindings: of the CUDA kernels (`cuda`) or all others.

    They lie in the folders `cpu` and `bindings`, those of the losses one level deeper.
    """
    identity = f"{compiler_identity(compiler)}\n{torch.__version__}"
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags: dict[Path, list[str]] = {}
    for source in [] if cuda else sorted(sources.rglob("cpu/*.cpp")):
        if source.name in INSTRUCTION_SETS:
            if x86 or not INSTRUCTION_SETS[source.name]:
                flags[source] = KERNEL + INSTRUCTION_SETS[source.name]
        else:
            flags[source] = KERNEL + (["-DIQGS_X86_KERNELS"] if x86 else [])
    for source in sorted(sources.rglob("bindings/*.cpp")):
        if source.name.startswith("cuda_") == cuda:
            flags[source] = OPTIMIZE + torch_flags(torch)[0]
    return [
        Job(source, (*compiler, *words), object_file(work, sources, source), identity)
        for source, words in flags.items()
    ]


def cuda_jobs(sources: Path, work: Path, decision: Decision, workers: int) -> list[Job]:
    """The CUDA kernels; they see no header of torch."""
    nvcc, host = decision.nvcc, decision.host
    if nvcc is None or host is None:
        return []
    files = sorted(sources.rglob("cuda/*.cu"))
    flags = [*CUDA, f"-ccbin={host.command}", *gencode_flags(decision.targets)]
    threads = max(1, workers // max(len(files), 1))  # within one file, over the architectures
    if threads > 1:
        flags.append(f"--threads={threads}")
    identity = f"{dotted(nvcc.version)} {host.kind} {dotted(host.version)}"
    return [
        Job(source, (nvcc.command, *flags), object_file(work, sources, source), identity)
        for source in files
    ]


def object_file(work: Path, sources: Path, source: Path) -> Path:
    """Named by the source's whole path below `sources`: file names recur in other folders."""
    return work / f"{'_'.join(source.relative_to(sources).with_suffix('').parts)}.o"


def link_command(
    compiler: list[str], objects: list[Path], torch: ModuleType, decision: Decision, output: Path
) -> list[str]:
    """One library of all objects; CUDA's runtime goes into it, its symbols stay inside."""
    command = [*compiler, "-dynamiclib" if sys.platform == "darwin" else "-shared"]
    command += [*map(str, objects), *torch_flags(torch)[1], "-pthread"]
    if decision.nvcc is not None and decision.nvcc.library_folder is not None:
        # torch has a runtime of its own in the process: neither may take calls of the other's.
        command += [f"-L{decision.nvcc.library_folder}", f"-l:{RUNTIME}", "-lrt", "-ldl"]
        command += [f"-Wl,--exclude-libs,{RUNTIME}"]
    return [*command, "-o", str(output)]
