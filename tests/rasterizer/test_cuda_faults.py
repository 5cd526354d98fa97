# SPDX-License-Identifier: Apache-2.0
"""The shim sees what it is for: faults planted into the kernels are caught, and why is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diff_surfel_rasterization import available_backends
from tests.rasterizer import cuda_host

if "cpu" not in available_backends():
    pytest.skip("the native library is not built", allow_module_level=True)
if cuda_host.compiler() is None:
    pytest.skip("no host compiler: apt install g++", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
# What is changed: file, text, what stands there instead, how it must show.
FAULTS = {
    "none": ("tile.h", "", "", "unnoticed"),
    "removed barrier before the splats are read": (
        "weigh_tile.h",
        "loaded(at, count);\n    __syncthreads();",
        "loaded(at, count);",
        "caught",
    ),
    "removed barrier before the warps are added": (
        "blend_backward.cu",
        "if (lane == 0) b.touched[warp] = touched;\n    __syncthreads();",
        "if (lane == 0) b.touched[warp] = touched;",
        "caught",
    ),
    "divergent collective": (
        "weigh_tile.h",
        "if (!__any_sync(EVERY_LANE, hit)) continue;",
        "if (!hit || !__any_sync(EVERY_LANE, hit)) continue;",
        "deadlock",
    ),
    "early exit": (
        "weigh_tile.h",
        "if (__syncthreads_and(!alive)) break;",
        "if (!alive) break;",
        "caught",
    ),
    "lanes that leave before a sum": (
        "blend_backward.cu",
        "if (!__any_sync(EVERY_LANE, hit)) return false;",
        "if (!hit) return false;",
        "caught",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault(fault, tmp_path):
    file, text, instead, outcome = FAULTS[fault]
    sources = tmp_path / "csrc"
    shutil.copytree(cuda_host.SOURCES, sources)
    path = sources / "cuda" / file
    original = path.read_text(encoding="utf-8")
    assert text in original, f"{file} has changed: plant the fault anew"
    path.write_text(original.replace(text, instead), encoding="utf-8")
    changed = [
        p for p in (sources / "cuda").glob("*.cu") if p.name == file or file in p.read_text()
    ]
    library = cuda_host.build(sources, tmp_path / "build", only=changed)
    done = subprocess.run(
        [sys.executable, "-m", "tests.rasterizer.cuda_fault_probe", str(library)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert outcome in done.stdout, done.stdout
