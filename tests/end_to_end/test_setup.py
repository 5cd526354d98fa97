# SPDX-License-Identifier: Apache-2.0
"""What the set-up decides: the interpreter, the requirements, when the rasterizer is rebuilt."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def load_checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_checks", ROOT / "scripts/setup_checks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checks = load_checks()


def setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup.sh"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_torch_in_range_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.torch_version() == torch.__version__
    monkeypatch.setattr(torch, "__version__", "2.3.1+cpu")
    assert checks.torch_version() is None


def test_only_unmet_requirements_are_named(tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text("# why\ntorch==9.9\nnumpy>=1.0\nnumpy<1  # too new\nno-such-thing-here>=1\n")
    assert list(checks.missing_requirements([str(listed)])) == ["numpy<1", "no-such-thing-here>=1"]


def test_a_rebuild_follows_sources_compiler_and_switches_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "csrc" / "a.cpp"
    source.parent.mkdir()
    source.write_text("int a;")
    monkeypatch.delenv("IQGS_CUDA", raising=False)
    first = checks.build_stamp(str(tmp_path), "g++ 12")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "b.cpp").write_text("int b;")
    (tmp_path / "README.md").write_text("words")
    assert checks.build_stamp(str(tmp_path), "g++ 12") == first
    assert checks.build_stamp(str(tmp_path), "g++ 13") != first
    monkeypatch.setenv("IQGS_CUDA", "0")
    assert checks.build_stamp(str(tmp_path), "g++ 12") != first
    monkeypatch.delenv("IQGS_CUDA")
    source.write_text("int c;")
    assert checks.build_stamp(str(tmp_path), "g++ 12") != first


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_a_python_that_does_not_run_is_refused(python: str) -> None:
    done = setup(PYTHON=python)
    assert done.returncode == 2 and python in done.stderr and "3.10" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    done = setup("--everything")
    assert done.returncode == 2 and "--everything" in done.stderr


def test_the_rasterizers_own_decision_is_part_of_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(ROOT / "submodules" / "diff-surfel-rasterization")
    decision, toolkit = checks.load_build_support(folder)
    nvcc = decision.Nvcc("/cuda/bin/nvcc", (13, 0), (80, 90), Path("/cuda/lib64"))
    facts = decision.Facts("auto", "2.14.1", "13.0", (nvcc,), (decision.Host("g++", "gcc", (12,)),))
    stamps = []
    for changes in ({}, {"capabilities": ((9, 0),)}, {"arch_list": "8.0"}, {"nvccs": ()}):
        found = dataclasses.replace(facts, **changes)
        monkeypatch.setattr(toolkit, "gather_facts", lambda *given, found=found: found)
        stamps.append(checks.build_stamp(folder, "g++ 12"))
    assert len(set(stamps)) == 4


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"capabilities": ()}, False),  # no GPU: nothing to build for
        ({"capabilities": (), "wish": "1"}, True),
        ({"wish": "0"}, False),
        ({"torch_cuda": None}, False),
        ({"torch_cuda": "12.4"}, False),  # its packages hold no compiler
    ],
)
def test_a_cuda_compiler_is_installed_for_a_gpu_only(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], wanted: bool
) -> None:
    folder = str(ROOT / "submodules" / "diff-surfel-rasterization")
    decision, toolkit = checks.load_build_support(folder)
    facts = decision.Facts("auto", "2.14.1", "13.0", capabilities=((9, 0),))
    found = dataclasses.replace(facts, **changes)
    monkeypatch.setattr(toolkit, "gather_facts", lambda *given: found)
    packages = checks.wanted_nvcc(folder)
    assert bool(packages) is wanted
    assert all(package.endswith("==13.0.*") for package in packages)
