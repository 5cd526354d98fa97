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
from tests.rasterizer.cuda_cases import CASES
from tests.rasterizer.cuda_fault_probe import IMAGE_LOSS, MASK_LOSS

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
        "load(count);\n    __syncthreads();",
        "load(count);",
        "caught",
    ),
    "removed barrier before the warps are added": (
        "blend_backward.cu",
        "count_before = splats;\n    __syncthreads();",
        "count_before = splats;",
        "caught",
    ),
    "lanes that read before the others have told": (
        "blend_backward.cu",
        "    __syncwarp();\n    static_assert(MOMENTS == HALF",
        "    static_assert(MOMENTS == HALF",
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
        "if (!__any_sync(EVERY_LANE, hit)) return;",
        "if (!hit) return;",
        "caught",
    ),
    "removed barrier between the directions of the image's window": (
        "image_loss.cu",
        "moments[m][row][column] = sums[m];\n  }\n  __syncthreads();",
        "moments[m][row][column] = sums[m];\n  }",
        "caught",
    ),
    "removed barrier between the halves of a sum": (
        "image_loss.cu",
        "half /= 2) {\n    __syncthreads();",
        "half /= 2) {",
        "caught",
    ),
}


def changed_sources(folder: Path, file: str, text: str, instead: str) -> list[Path]:
    """Copy csrc/ to `folder`, change one text; returns the kernel files that this touches."""
    shutil.copytree(cuda_host.SOURCES, folder)
    path = next(folder.rglob(f"cuda/{file}"))
    original = path.read_text(encoding="utf-8")
    assert text in original, f"{file} has changed: plant the fault anew"
    path.write_text(original.replace(text, instead), encoding="utf-8")
    kernels = folder.rglob("cuda/*.cu")
    return [p for p in kernels if p.name == file or f'"{file}"' in p.read_text(encoding="utf-8")]


def probe(library: Path, *cases: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.rasterizer.cuda_fault_probe", str(library), *cases],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault(fault, tmp_path):
    file, text, instead, outcome = FAULTS[fault]
    changed = changed_sources(tmp_path / "csrc", file, text, instead)
    library = cuda_host.build(tmp_path / "csrc", tmp_path / "build", only=changed)
    cases = [IMAGE_LOSS] if file == "image_loss.cu" else ["saturated", "long_tiles"]
    done = probe(library, *cases)
    assert done.returncode == 0, done.stderr
    assert outcome in done.stdout, done.stdout


def sanitizer_libraries() -> list[str]:
    """The runtimes of g++'s address and undefined-behaviour sanitizers; [] if missing."""
    command = cuda_host.compiler()
    found = []
    for name in ("libasan.so", "libubsan.so"):
        done = subprocess.run(
            [str(command), f"-print-file-name={name}"], capture_output=True, text=True, check=False
        )
        found.append(done.stdout.strip())
    return found if all(Path(path).is_absolute() for path in found) else []


@pytest.mark.slow
@pytest.mark.skipif(
    not sanitizer_libraries(), reason="needs g++'s sanitizers: apt install libasan8"
)
@pytest.mark.parametrize("planted", [False, True])
def test_no_kernel_leaves_its_memory(planted, tmp_path):
    # Planted: the last array of the pixels' state is written one plane too far.
    file, text = "blend_forward.cu", "t.median[i] = s.median;"
    instead = text.replace("[i]", "[i + int64_t(p.camera.width) * p.camera.height]")
    changed_sources(tmp_path / "csrc", file, text, instead if planted else text)
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize=vptr")
    kernels = [*(tmp_path / "csrc").rglob("cuda/*.cu"), cuda_host.SHIM / "cuda_shim.cpp"]
    library = cuda_host.build(tmp_path / "csrc", tmp_path / "build", only=kernels, more=flags)
    done = probe(
        library,
        *(["saturated"] if planted else [*CASES, IMAGE_LOSS, MASK_LOSS]),
        LD_PRELOAD=" ".join(sanitizer_libraries()),
        ASAN_OPTIONS="detect_leaks=0,detect_stack_use_after_return=0,verify_asan_link_order=0",
    )
    if planted:
        assert "heap-buffer-overflow" in done.stderr and "write_maps" in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-4000:]
        assert "unnoticed" in done.stdout and "runtime error" not in done.stderr, done.stderr
