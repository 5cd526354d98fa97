# SPDX-License-Identifier: Apache-2.0
"""setup.py itself, on a tree with a handful of tiny sources: what it builds, says and refuses.

torch is made to say that it has CUDA; the compilers are real, or programs that answer like nvcc.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import diff_surfel_rasterization
from tests.rasterizer.build_tools import PACKAGE, fake_toolkit, toolkit

SOURCES = {
    "cpu/kernels_baseline.cpp": "int cpu_kernel() { return 1; }\n",
    "bindings/schema.cpp": 'extern "C" __attribute__((visibility("default"))) int one()'
    " { return 1; }\n",
    "bindings/cuda_probe.cpp": "int gpu_count();\n"
    'extern "C" __attribute__((visibility("default"))) int gpus() { return gpu_count(); }\n',
    "cuda/probe.cu": """#include <cuda_runtime.h>
__global__ void kernel(float* x) { x[threadIdx.x] += 1; }
int gpu_count() {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess) return 0;
  if (n < 0) kernel<<<1, 1>>>(nullptr);
  return n;
}
""",
}
DRIVER = """
import runpy, sys, torch
torch.version.cuda = {cuda!r}
sys.argv[1:] = ["--quiet", "build_ext", "--build-lib=out", "--build-temp=work"]
sys.path.insert(0, {folder!r})
runpy.run_path("setup.py", run_name="__main__")
"""
pytestmark = pytest.mark.skipif(
    toolkit.find_compiler() is None, reason="no C++ compiler: apt install g++"
)
needs_nvcc = pytest.mark.skipif(
    not toolkit.find_nvccs(), reason="no nvcc: install a CUDA toolkit, or set CUDA_HOME"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The rasterizer's folder with other sources."""
    root = tmp_path / "tree"
    unwanted = shutil.ignore_patterns("csrc", "build", "*.so", "_build_info.json", "__pycache__")
    shutil.copytree(PACKAGE, root, ignore=unwanted)
    for name, text in SOURCES.items():
        path = root / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def build(tree: Path, cuda: str | None, **environment: str) -> subprocess.CompletedProcess[str]:
    switches = ("IQGS_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH")
    kept = {name: value for name, value in os.environ.items() if name not in switches}
    return subprocess.run(
        [sys.executable, "-c", DRIVER.format(cuda=cuda, folder=str(tree))],
        cwd=tree,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a build that went well; before it there is one that asks for patience."""
    assert done.returncode == 0, done.stdout + done.stderr
    name = "diff_surfel_rasterization: "
    lines = [line for line in done.stdout.splitlines() if line.startswith(name)]
    assert len(lines) == 2, done.stdout
    assert re.fullmatch(name + r"compiling \d+ files, \d+ at a time", lines[0])
    return lines[1].removeprefix(name)


def info_of(tree: Path) -> dict[str, object]:
    text = (tree / "out" / "diff_surfel_rasterization" / "_build_info.json").read_text()
    return dict(json.loads(text))


def library_of(tree: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(tree / "out" / "diff_surfel_rasterization" / "_native.so"))


@needs_nvcc
def test_a_cuda_library_is_built_without_a_gpu(tree):
    nvcc = toolkit.find_nvccs()[0]
    cuda = ".".join(map(str, nvcc.version))
    done = build(tree, cuda, IQGS_CUDA="1", TORCH_CUDA_ARCH_LIST="8.0;9.0+PTX")
    assert said(done).startswith(f"CPU and CUDA {cuda} for sm_80 sm_90 compute_90 (torch ")
    info = info_of(tree)
    assert info["cuda"] == info["torch_cuda"] == cuda
    assert info["archs"] == ["sm_80", "sm_90", "compute_90"]
    assert library_of(tree).gpus() == (torch.cuda.device_count() if torch.version.cuda else 0)


@needs_nvcc
def test_cudas_runtime_stays_inside_the_library(tree):
    """torch has one of its own in the process: neither may serve the other's calls."""
    cuda = ".".join(map(str, toolkit.find_nvccs()[0].version))
    said(build(tree, cuda, TORCH_CUDA_ARCH_LIST="8.0"))
    library = str(tree / "out" / "diff_surfel_rasterization" / "_native.so")
    listed = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True)
    assert " T gpus" in listed.stdout
    assert not re.search(r" [TWUV] cuda", listed.stdout)


def test_without_a_fitting_nvcc_the_cpu_is_built_and_the_reason_kept(tree, tmp_path):
    fake_toolkit(tmp_path / "cuda", "12.4")
    environment = {"CUDA_HOME": str(tmp_path / "cuda")}
    line = said(build(tree, "99.0", **environment))
    assert re.match(r"CPU only \(torch .* has CUDA 99.0, but .*nvcc is 12.4", line)
    info = info_of(tree)
    assert info["cuda"] is None and line == f"CPU only ({info['reason']})"
    library = library_of(tree)
    assert library.one() == 1 and not hasattr(library, "gpus")

    done = build(tree, "99.0", IQGS_CUDA="1", **environment)
    assert done.returncode != 0
    assert "IQGS_CUDA=1 is not possible: torch " in done.stderr
    assert "install the CUDA toolkit 99.0" in done.stderr and "Traceback" not in done.stderr


def test_sources_that_do_not_compile_leave_the_cpu_and_a_log(tree, tmp_path):
    fake_toolkit(tmp_path / "cuda", "99.1", "echo 'probe.cu: the compiler is ill' >&2; exit 2")
    environment = {"CUDA_HOME": str(tmp_path / "cuda"), "CUDAHOSTCXX": ""}
    line = said(build(tree, "99.0", **environment))
    log = re.fullmatch(r"CPU only \(the CUDA sources did not compile, see (.*)\)", line)
    assert log and "the compiler is ill" in Path(log[1]).read_text()
    assert info_of(tree)["cuda"] is None and not hasattr(library_of(tree), "gpus")

    done = build(tree, "99.0", IQGS_CUDA="1", **environment)
    assert done.returncode != 0 and "IQGS_CUDA=1 is not possible: the CUDA sources" in done.stderr


def test_cuda_can_be_switched_off(tree):
    assert said(build(tree, "13.0", IQGS_CUDA="0")) == "CPU only (IQGS_CUDA=0)"
    assert info_of(tree)["remedy"] == "IQGS_CUDA=auto bash scripts/setup.sh"


def test_torch_without_cuda(tree):
    line = said(build(tree, None))
    assert line == f"CPU only (torch {torch.__version__} has no CUDA)"
    done = build(tree, None, IQGS_CUDA="1")
    assert done.returncode != 0 and "has no CUDA; install a torch with CUDA" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IQGS_CUDA", "yes", "IQGS_CUDA must be auto, 0 or 1, got 'yes'"),
        ("TORCH_CUDA_ARCH_LIST", "hooper", "'hooper' is not like 8.6"),
    ],
)
def test_a_wrong_switch_stops_the_build(tree, name, value, message):
    done = build(tree, "13.0", **{name: value})
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


def test_the_second_build_compiles_nothing(tree):
    said(build(tree, None))
    before = {path: path.stat().st_mtime_ns for path in (tree / "work").glob("*.o")}
    assert len(before) == 2
    said(build(tree, None))
    assert {path: path.stat().st_mtime_ns for path in (tree / "work").glob("*.o")} == before


def wheel_of(tree: Path, **environment: str) -> Path:
    """The wheel of the tree's build."""
    shutil.rmtree(tree / "wheels", ignore_errors=True)
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "wheels"]
    given = {**os.environ, "IQGS_CUDA": "0", **environment}
    done = subprocess.run(
        command, cwd=tree, env=given, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tree / "wheels").glob("*.whl")
    return wheel


def test_a_wheel_is_any_pythons_and_one_that_is_handed_on_names_its_torch(tree):
    name, version, python, abi, _ = wheel_of(tree).stem.split("-")
    assert (name, version, python, abi) == (
        "diff_surfel_rasterization",
        diff_surfel_rasterization.__version__,
        "py3",
        "none",
    )
    wheel = wheel_of(tree, IQGS_WHEEL="1")
    release, _, label = torch.__version__.partition("+")
    assert wheel.stem.split("-")[1] == f"{version}+torch{release}{label and '.' + label}"
    with zipfile.ZipFile(wheel) as packed:
        (metadata,) = (entry for entry in packed.namelist() if entry.endswith("METADATA"))
        asked = re.findall("^Requires-Dist: (.+)$", packed.read(metadata).decode(), re.MULTILINE)
        library = packed.read("diff_surfel_rasterization/_native.so")
    assert asked == [f"torch=={release}"]
    assert b"Py_Initialize" not in library and b"libpython" not in library
