# SPDX-License-Identifier: Apache-2.0
"""The modules that setup.py builds the rasterizer with; they are not installed."""

from __future__ import annotations

import importlib
import importlib.util
import stat
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parents[2] / "submodules" / "diff-surfel-rasterization"


def _load_package(name: str) -> ModuleType:
    """A package beside setup.py, without putting that folder on the path: the installed
    rasterizer must not be shadowed by the one in the tree.
    """
    folder = PACKAGE / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if "build_support" not in sys.modules:
    _load_package("build_support")
archs, compiling, decision, plan, toolkit = (
    importlib.import_module(f"build_support.{name}")
    for name in ("archs", "compiling", "decision", "plan", "toolkit")
)


def write_program(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def fake_toolkit(root: Path, release: str, compile_by: str = "exit 1") -> str:
    """An nvcc that answers like one of this release, with a runtime library beside it.

    `compile_by`: what it does instead of compiling.
    """
    (root / "lib64").mkdir(parents=True)
    (root / "lib64" / toolkit.RUNTIME).touch()
    (root / "include" / "crt").mkdir(parents=True)
    (root / "include" / "crt" / "host_config.h").write_text("#if __GNUC__ > 13\n#error\n#endif\n")
    return write_program(
        root / "bin" / "nvcc",
        f"""case "$1" in
  --version) echo "Cuda compilation tools, release {release}, V{release}.1";;
  --list-gpu-arch) printf 'compute_80\\ncompute_90\\n';;
  --dryrun) echo '#$ TOP={root}' >&2;;
  *) {compile_by};;
esac""",
    )
