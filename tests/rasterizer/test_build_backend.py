# SPDX-License-Identifier: Apache-2.0
"""`pip install` of the rasterizer's folder: which torch is found, what is said where something is
missing, and that nothing of an earlier build gets into a wheel."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.rasterizer.build_tools import PACKAGE

backend = importlib.import_module("build_support.backend")

# What pip does to an isolated build: the environment's own packages are taken off the path.
ISOLATED = f"""
import sys, sysconfig
sys.path = [entry for entry in sys.path if entry != sysconfig.get_paths()["purelib"]]
sys.path.insert(0, {str(PACKAGE)!r})
from build_support.torch_outside import import_torch
print(import_torch("the rasterizer").__version__)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment without anything in it."""
    venv.create(tmp_path / "environment", with_pip=False)
    return tmp_path / "environment"


def ask(environment: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Look for torch from the isolated build of an environment, started in `folder`."""
    return subprocess.run(
        [str(environment / "bin" / "python"), "-c", ISOLATED],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def write_torch(folder: Path, version: str) -> None:
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(f"__version__ = {version!r}\n")


def test_the_torch_of_the_environment_is_found_from_an_isolated_build(environment, tmp_path):
    (packages,) = environment.glob("lib/python*/site-packages")
    write_torch(packages, "2.9.0")
    done = ask(environment, tmp_path)
    assert done.stdout == "2.9.0\n", done.stderr


def test_without_a_torch_one_true_sentence_says_so(environment, tmp_path):
    done = ask(environment, tmp_path)
    python = environment / "bin" / "python"
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"the rasterizer: {python} has no torch, and the library is")
    assert f"run {python} -m pip install torch and install this again" in done.stderr


def test_a_torch_that_does_not_load_is_named(environment, tmp_path):
    (packages,) = environment.glob("lib/python*/site-packages")
    write_torch(packages, "2.9.0")
    (packages / "torch" / "__init__.py").write_text("import something_that_is_missing\n")
    done = ask(environment, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"the torch in {packages} cannot be imported here (No module" in done.stderr


@pytest.mark.parametrize(
    ("missing", "word"),
    [(("setuptools",), "setuptools"), (("wheel", "setuptools.command.bdist_wheel"), "wheel")],
)
def test_tools_that_are_missing_are_named(monkeypatch, missing, word):
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> object:
        return None if name in missing else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(SystemExit, match=f"building needs {word}.* run: pip install setuptools"):
        backend.build_wheel("somewhere")


@pytest.mark.parametrize("kept", ["wheel", "setuptools.command.bdist_wheel"])
def test_one_way_to_make_a_wheel_is_enough(monkeypatch, kept):
    monkeypatch.setattr(backend, "_is_there", lambda name: name in ("setuptools", kept))
    assert backend.setuptools_hooks().__name__ == "setuptools.build_meta"


def test_nothing_of_an_earlier_build_gets_into_the_package(tmp_path):
    old = tmp_path / "lib" / "diff_surfel_rasterization"
    old.mkdir(parents=True)
    for name in ("compat.py", "_native.so"):
        (old / name).write_text("of an earlier build")
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", f"--build-lib={tmp_path / 'lib'}"],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (old / "compat" / "__init__.py").is_file()
    assert not (old / "compat.py").exists() and not (old / "_native.so").exists()
