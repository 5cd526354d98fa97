# SPDX-License-Identifier: Apache-2.0
"""A build's record: it refuses what it was not made for, and says why there is no CUDA in it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from diff_surfel_rasterization import (
    available_backends,
    backends,
    library,
    native,
    rasterize,
)
from tests.rasterizer.scenes import detached, make_view, random_surfels

H100 = (9, 0)
CUDA_INFO = {"cuda": "13.0", "archs": ["sm_80", "sm_90"]}


def record(**changes: object) -> dict[str, object]:
    """What setup.py writes for the running interpreter."""
    return {
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "sources": "0",
        "cuda": None,
        "archs": [],
        "reason": "no nvcc is found",
        "remedy": "install it, then bash scripts/setup.sh",
        **changes,
    }


def write_build(folder: Path, info: object) -> None:
    """A library that must never be loaded, with its record."""
    folder.mkdir(exist_ok=True)
    (folder / library.LIBRARY).write_bytes(b"not loaded")
    (folder / library.INFO_FILE).write_text(json.dumps(info))


@pytest.fixture
def gpu(monkeypatch):
    """A machine with an H100."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: H100)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H100")


@pytest.mark.fault(row=45)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"torch": "1.0"}, "torch 1.0, running"),
        ({"torch": None}, "torch none, running"),
        ({"torch_cuda": "11.8", **CUDA_INFO}, "torch with CUDA 11.8, running"),
    ],
)
def test_a_library_for_something_else_is_refused(tmp_path, changes, said):
    write_build(tmp_path, record(**changes))
    with pytest.raises(ImportError, match=f"was built for {said}.*rebuild: bash scripts/setup.sh"):
        library.load_library(tmp_path)


@pytest.mark.parametrize("running", ["13.0", None])
def test_kernels_for_another_cuda_of_the_same_torch_are_refused(tmp_path, monkeypatch, running):
    monkeypatch.setattr(torch.version, "cuda", running)
    write_build(tmp_path, record(torch_cuda="12.4", **CUDA_INFO))
    with pytest.raises(ImportError, match=f"CUDA 12.4, running {running or 'none'}"):
        library.load_library(tmp_path)


def test_a_library_without_kernels_fits_each_build_of_its_torch(gpu, monkeypatch):
    """A wheel that was made with a CPU torch, where pip brings the one with CUDA."""
    release = torch.__version__.split("+")[0]
    info = record(torch=f"{release}+cpu", torch_cuda=None)
    monkeypatch.setattr(torch, "__version__", f"{release}+cu130")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert library.mismatch(info) is None
    said = str(library.cuda_problem(info))
    assert f"CPU only (for torch {release}+cpu, running {release}+cu130); rebuild: bash" in said


def test_a_library_without_its_record_is_refused(tmp_path):
    write_build(tmp_path, record())
    (tmp_path / library.INFO_FILE).write_text("{")
    with pytest.raises(ImportError, match="no readable _build_info.json.*bash scripts/setup.sh"):
        library.load_library(tmp_path)


def test_a_second_copy_of_the_same_sources_uses_the_library_of_the_first(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    write_build(first, record(sources="a"))
    monkeypatch.setattr(torch.ops, "loaded_libraries", {str(first / library.LIBRARY), "other.so"})
    write_build(second, record(sources="a", reason="mine"))
    info = library.load_library(second)  # which would fail if it were loaded
    assert info is not None and info["reason"] == "mine"
    write_build(second, record(sources="b"))
    with pytest.raises(ImportError, match="cannot be used beside .*first/_native.so, which this"):
        library.load_library(second)


@pytest.mark.fault(row=45)
def test_a_library_older_than_its_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.ops, "loaded_libraries", set())
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "a.cpp").write_text("int x;")
    package = tmp_path / "package"
    write_build(package, record())
    with pytest.raises(ImportError, match="older than .*csrc"):
        library.load_library(package)
    write_build(package, record(sources=library.source_hash(tmp_path / "csrc")))
    with pytest.raises(ImportError, match="does not load"):
        library.load_library(package)


def test_nothing_built_is_no_error(tmp_path):
    assert library.load_library(tmp_path) is None


def test_a_build_without_cuda_says_why_and_what_to_do(gpu):
    said = library.cuda_problem(record())
    assert said is not None and "CPU only (no nvcc is found); install it, then bash" in said


def test_a_gpu_that_the_build_has_no_code_for_is_named(gpu):
    assert library.cuda_problem(CUDA_INFO) is None
    said = library.cuda_problem({**CUDA_INFO, "archs": ["sm_80", "sm_100", "compute_100"]})
    assert said is not None and "no kernel image for NVIDIA H100 (compute capability 9.0)" in said
    assert "the build has sm_80, sm_100, compute_100" in said
    assert "TORCH_CUDA_ARCH_LIST=9.0 bash scripts/setup.sh" in said


def test_a_cuda_build_on_a_machine_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no GPU" in str(library.cuda_problem(CUDA_INFO))


def fake_native(monkeypatch, info: dict[str, object]) -> None:
    module = SimpleNamespace(available=lambda: True, build_info=lambda: info)
    for verb in ("rasterize", "blend_weights", "splat_weights"):
        for device in ("cpu", "cuda"):
            setattr(module, f"{verb}_{device}", lambda *given: "native")
    monkeypatch.setattr(backends, "native_module", lambda: module)
    monkeypatch.setattr(backends, "_gpu_problem", lambda m, d: library.cuda_problem(info, d))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (CUDA_INFO, ("cuda", "cpu", "reference")),
        ({**CUDA_INFO, "archs": ["sm_80"]}, ("cpu", "reference")),
        (record(), ("cpu", "reference")),
    ],
)
def test_cuda_is_available_where_built_seen_and_served(gpu, monkeypatch, info, expected):
    fake_native(monkeypatch, info)
    assert available_backends() == expected


@pytest.mark.fault(row=38)
def test_asking_for_cuda_names_the_recorded_reason(gpu, monkeypatch):
    fake_native(monkeypatch, record())
    surfels = detached(random_surfels(4, seed=3), torch.float32)
    with pytest.raises(RuntimeError, match="'cuda' cannot be used: .*no nvcc is found"):
        rasterize(surfels, make_view(), backend="cuda")


def test_cuda_takes_no_tensors_of_the_cpu(gpu, monkeypatch):
    fake_native(monkeypatch, CUDA_INFO)
    surfels = detached(random_surfels(4, seed=3), torch.float32)
    with pytest.raises(ValueError, match="needs float32 tensors on cuda, got torch.float32 on cpu"):
        rasterize(surfels, make_view(), backend="cuda")


def test_why_a_library_was_refused_is_part_of_the_warning(monkeypatch, caplog):
    refusal = "_native.so was built for torch 1.0, running 2.0; rebuild: bash scripts/setup.sh"
    monkeypatch.setattr(backends, "_load_native", lambda: (None, refusal))
    backends._warn_slow.cache_clear()
    rasterize(detached(random_surfels(4, seed=3), torch.float32), make_view())
    backends._warn_slow.cache_clear()
    assert [refusal in r.getMessage() for r in caplog.records] == [True]


@pytest.mark.parametrize("function", ["rasterize", "blend_weights"])
def test_capture_in_a_cuda_graph_is_refused_in_words(monkeypatch, function):
    tensor = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    native._refuse_capture(function, tensor)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=f"{function}: cannot be captured in a CUDA graph"):
        native._refuse_capture(function, tensor)
    native._refuse_capture(function, torch.zeros(1))
