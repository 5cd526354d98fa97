# SPDX-License-Identifier: Apache-2.0
"""What the set-up decides: which interpreter, which requirements, when the rasterizer is rebuilt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def checks(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "setup_checks.py"), *arguments],
        capture_output=True, text=True, env={**os.environ, **environment}, check=True,
    )
    return done.stdout.strip()


def setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup.sh"), *arguments],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=60,
    )


def test_torch_in_range_is_kept() -> None:
    import torch

    assert checks("torch") == torch.__version__


def test_only_unmet_requirements_are_named(tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text("# why\ntorch==9.9\nnumpy>=1.0\nnumpy<1  # too new\nno-such-thing-here>=1\n")
    assert checks("missing", str(listed)).splitlines() == ["numpy<1", "no-such-thing-here>=1"]


def test_a_rebuild_follows_sources_compiler_and_switches_only(tmp_path: Path) -> None:
    source = tmp_path / "csrc" / "a.cpp"
    source.parent.mkdir()
    source.write_text("int a;")
    first = checks("stamp", str(tmp_path), "g++ 12", IQGS_CUDA="")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "b.cpp").write_text("int b;")
    (tmp_path / "README.md").write_text("words")
    assert checks("stamp", str(tmp_path), "g++ 12", IQGS_CUDA="") == first
    assert checks("stamp", str(tmp_path), "g++ 13", IQGS_CUDA="") != first
    assert checks("stamp", str(tmp_path), "g++ 12", IQGS_CUDA="0") != first
    source.write_text("int c;")
    assert checks("stamp", str(tmp_path), "g++ 12", IQGS_CUDA="") != first


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_a_python_that_does_not_run_is_refused(python: str) -> None:
    done = setup(PYTHON=python)
    assert done.returncode == 2 and python in done.stderr and "3.10" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    done = setup("--everything")
    assert done.returncode == 2 and "--everything" in done.stderr
