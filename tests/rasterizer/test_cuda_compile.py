# SPDX-License-Identifier: Apache-2.0
"""nvcc compiles every CUDA source for every card in use: no warning, registers within a budget.

What the compiler says is kept in the system's folder for temporary files under a name that depends
on the source, all headers and the flags, so a second run of the tests compiles nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rasterizer.build_tools import PACKAGE, archs, decision, plan, toolkit

CSRC = PACKAGE / "csrc"
STRICT = ["-Werror=all-warnings", "-Xcompiler=-Wall", "-Xptxas=-v"]
DEMANGLER = "c++filt"

# The largest (registers of a thread, bytes of spill stores or loads, bytes of stack frame) on any
# card; the first pattern that is found in the kernel's name counts. A stack frame without spills
# is an array that is indexed at run time. 65536 registers serve 512 threads of 128 registers, or
# 1024 of 64: on an H200 the forward kernels are faster with a few spills and twice the threads.
BUDGET = {
    r"\bcub::": (168, 16, 16),
    r"\bblend_backward_kernel<iqgs::Surfel, (24|16), 2>": (128, 0, 0),
    r"\bblend_backward_kernel<iqgs::Surfel, [48], 2>": (120, 0, 0),
    r"\bblend_backward_kernel<iqgs::Surfel, (24|16), 1>": (128, 0, 0),
    r"\bblend_backward_kernel<iqgs::Surfel, [48], 1>": (104, 0, 0),
    r"\bblend_backward_kernel<iqgs::Surfel, \d+, 0>": (80, 0, 0),
    r"\bblend_backward_kernel<iqgs::Ellipsoid, 24, [12]>": (128, 0, 0),
    r"\bblend_backward_kernel<iqgs::Ellipsoid, 16, [12]>": (114, 0, 0),
    r"\bblend_backward_kernel<iqgs::Ellipsoid, [48], [12]>": (104, 0, 0),
    r"\bblend_backward_kernel<iqgs::Ellipsoid, \d+, 0>": (80, 0, 0),
    r"\bblend_forward_kernel<iqgs::Surfel, 24, true>": (64, 48, 48),
    r"\bblend_forward_kernel<iqgs::Surfel, 16, true>": (64, 44, 32),
    r"\bblend_forward_kernel<iqgs::Surfel, 8, true>": (64, 8, 8),
    r"\bblend_forward_kernel<iqgs::Surfel, 24, false>": (64, 16, 8),
    r"\bblend_forward_kernel<iqgs::Ellipsoid, (24|16), true>": (64, 40, 32),
    r"\bblend_forward_kernel<iqgs::Ellipsoid, 8, true>": (64, 0, 0),
    r"\bblend_forward_kernel<iqgs::Ellipsoid, 24, false>": (64, 8, 8),
    r"\bblend_forward_kernel<iqgs::\w+, \d+, false>": (64, 0, 0),
    r"\bmask_sums_kernel<": (96, 0, 0),
    r"\bmask_grad_kernel<": (128, 0, 0),
    r"\bproject_kernel<iqgs::\w+, double>": (104, 0, 64),
    r"\bproject_kernel<iqgs::\w+, iqgs::Twofold>": (96, 0, 64),
    r"\bproject_backward_kernel<iqgs::\w+, double>": (160, 4, 176),
    r"\bproject_backward_kernel<iqgs::\w+, iqgs::Twofold>": (168, 0, 176),
    r"\bweigh_kernel<iqgs::Surfel>": (64, 0, 0),
    r"\bweigh_kernel<iqgs::Ellipsoid>": (64, 8, 8),
    r"": (64, 0, 0),
}


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel on one card."""

    name: str
    arch: int
    registers: int
    spill: int  # the larger of stores and loads, bytes
    stack: int


def find_compilers() -> decision.Decision:
    """The newest CUDA that is found here, whatever torch was built for."""
    nvccs = sorted(toolkit.find_nvccs(), key=lambda nvcc: nvcc.version)[-1:]
    version = decision.dotted(nvccs[0].version) if nvccs else "13.0"
    hosts = toolkit.find_hosts(toolkit.find_compiler() or ["g++"])
    facts = decision.Facts("auto", "any", version, tuple(nvccs), hosts, toolkit.torch_bounds())
    return decision.decide(facts)


COMPILERS = find_compilers()
pytestmark = pytest.mark.skipif(
    not COMPILERS.cuda, reason=f"{COMPILERS.reason}; {COMPILERS.remedy}".replace("\n", " ")
)
SOURCES = sorted(CSRC.rglob("cuda/*.cu"))


def command_for(targets: list[str]) -> list[str]:
    assert COMPILERS.nvcc is not None and COMPILERS.host is not None
    flags = [*plan.CUDA, *STRICT, f"--threads={min(len(targets), os.cpu_count() or 1)}"]
    flags += [f"-ccbin={COMPILERS.host.command}", *archs.gencode_flags(targets)]
    return [COMPILERS.nvcc.command, *flags]


def all_targets(source: Path) -> list[str]:
    """Machine code for every common card that this nvcc knows; cub's own kernels, which take half
    of all the time, for every third.
    """
    assert COMPILERS.nvcc is not None
    targets = [f"sm_{n}" for n in archs.COMMON if n in COMPILERS.nvcc.archs]
    return targets[::3] if "#include <cub/" in source.read_text() else targets


def compile_source(source: Path, targets: list[str]) -> str:
    """What nvcc says; an error is an AssertionError with its words."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*command_for(targets), "-c", str(source), "-o", f"{folder}/object.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(command)}\n{said[-4000:]}"
    return said


def compiled(source: Path) -> str:
    """The same from an earlier run where nothing has changed."""
    assert COMPILERS.nvcc is not None
    words = [*command_for(all_targets(source)), str(COMPILERS.nvcc.version), source.name]
    digest = hashlib.sha256("\0".join(words).encode())
    headers = sorted(path for path in CSRC.rglob("*.h") if "bindings" not in path.parts)
    for path in [source, *headers]:
        digest.update(str(path.relative_to(CSRC)).encode() + path.read_bytes())
    kept = Path(tempfile.gettempdir()) / f"iqgs-nvcc-{digest.hexdigest()[:16]}.txt"
    if not kept.is_file():
        said = compile_source(source, all_targets(source))
        half = kept.with_suffix(f".{os.getpid()}")
        half.write_text(said, encoding="utf-8")
        half.replace(kept)
    return kept.read_text(encoding="utf-8")


def kernels_in(said: str) -> Iterator[Kernel]:
    """The kernels that ptxas reports, all cards."""
    plain = subprocess.run([DEMANGLER], input=said, capture_output=True, text=True, check=True)
    entries = re.split(r"ptxas info\s*: Compiling entry function ", plain.stdout)[1:]
    for entry in entries:
        head = re.match(r"'(.*)' for 'sm_(\d+)\w?'", entry)
        frame = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", entry
        )
        used = re.search(r"Used (\d+) registers", entry)
        assert head and frame and used, f"ptxas says something new: {entry[:400]}"
        stack, stores, loads = map(int, frame.groups())
        yield Kernel(head[1], int(head[2]), int(used[1]), max(stores, loads), stack)


def pattern_of(kernel: Kernel) -> str:
    return next(pattern for pattern in BUDGET if re.search(pattern, kernel.name))


def over_budget(said: str) -> list[str]:
    """Every kernel that takes more than its row allows."""
    found = []
    for kernel in kernels_in(said):
        limits = BUDGET[pattern_of(kernel)]
        taken = (kernel.registers, kernel.spill, kernel.stack)
        if any(used > limit for used, limit in zip(taken, limits, strict=True)):
            name = kernel.name.split("(iqgs::")[0]
            found.append(
                f"{name} on sm_{kernel.arch}: (registers, spill, stack) {taken} of {limits}"
            )
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_source_compiles_within_its_budget(source):
    said = compiled(source)
    assert "warning" not in said.lower()
    assert over_budget(said) == []
    seen = {kernel.arch for kernel in kernels_in(said)}
    assert not seen or seen == {int(target.removeprefix("sm_")) for target in all_targets(source)}


def test_every_row_of_the_budget_is_about_a_kernel():
    assert SOURCES, "csrc has no kernel"
    used = {pattern_of(kernel) for source in SOURCES for kernel in kernels_in(compiled(source))}
    assert set(BUDGET) - used - {""} == set()


# One value for each of 200 registers, all alive at once, where a block of 1024 threads leaves 64.
GREEDY = """
__global__ void __launch_bounds__(1024) greedy_kernel(const float* in, float* out, int n) {
  float v[200];
#pragma unroll
  for (int i = 0; i < 200; ++i) v[i] = in[i * n + threadIdx.x];
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 200; ++i)
#pragma unroll
    for (int j = 0; j < 3; ++j) sum = sum * v[i] + v[(i * 7 + j) % 200];
  out[threadIdx.x] = sum;
}
"""
MODEST = "__global__ void modest_kernel(float* x) { x[threadIdx.x] *= 2; }\n"
UNTIDY = "__global__ void untidy_kernel(float* x) { int unused = 1; x[0] = 1; }\n"
INDEXED = """
__global__ void indexed_kernel(float* x, int i) {
  float v[8] = {};
  for (int k = 0; k < 8; ++k) v[(k * i) & 7] += x[k];
  x[threadIdx.x] = v[i & 7];
}
"""


@pytest.fixture
def source(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "probe.cu"
        path.write_text(text)
        return path

    return write


def test_a_kernel_that_spills_is_found(source):
    said = over_budget(compile_source(source(MODEST + GREEDY), ["sm_80", "sm_90"]))
    assert len(said) == 2 and all("greedy_kernel" in line for line in said)


def test_an_array_in_memory_is_found(source):
    found = over_budget(compile_source(source(INDEXED), ["sm_80"]))
    assert len(found) == 1 and "indexed_kernel" in found[0]


def test_a_warning_is_an_error(source):
    with pytest.raises(AssertionError, match="unused"):
        compile_source(source(UNTIDY), ["sm_80"])


def test_a_modest_kernel_passes(source):
    said = compile_source(source(MODEST), ["sm_75", "sm_90"])
    assert over_budget(said) == []
    assert [(k.name, k.arch) for k in sorted(kernels_in(said), key=lambda k: k.arch)] == [
        ("modest_kernel(float*)", 75),
        ("modest_kernel(float*)", 90),
    ]
