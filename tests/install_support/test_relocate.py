# SPDX-License-Identifier: Apache-2.0
"""Rewriting a module for its place below `iqgs`: what changes, what stays, what is refused."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from install_support.doors import DOORS, entry_points, program_names
from install_support.relocate import MOVED, REINSTALL, RelocationError, relocate

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for name in ("iqgs", "arguments", "gaussian_renderer", "scene", "utils")
    for path in (ROOT / name).rglob("*.py")
) + [ROOT / path for path in DOORS.values()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from utils.ply import read_ply\n", "from iqgs.utils.ply import read_ply\n"),
        ("from  scene   import View\n", "from  iqgs.scene   import View\n"),
        ("import utils.ply as ply\n", "import iqgs.utils.ply as ply\n"),
        ("import os, scene as s, sys\n", "import os, iqgs.scene as s, sys\n"),
        ("x = 'ä'; from utils import a\n", "x = 'ä'; from iqgs.utils import a\n"),
        ("def f():\n    from scene import (\n        View,\n    )\n",
         "def f():\n    from iqgs.scene import (\n        View,\n    )\n"),
        ("from diff_surfel_rasterization import rasterize\n",
         "from iqgs.diff_surfel_rasterization import rasterize\n"),
        ("import sys\nsys.path.insert(0, str(ROOT))\nx = 1\n", "import sys\npass\nx = 1\n"),
        ("if a:\n    sys.path.insert(\n        0, b\n    )\n", "if a:\n    pass\n\n\n"),
        ('REBUILD = "bash scripts/setup.sh"\n', f'REBUILD = "{REINSTALL}"\n'),
        ('Parser(prog="train.py", x=1)\n', 'Parser(prog="iqgs-train", x=1)\n'),
    ],
)  # fmt: skip
def test_what_is_rewritten(before, after):
    assert relocate(before, "m.py", {"train.py": "iqgs-train"}) == after


@pytest.mark.parametrize(
    "text",
    [
        "from iqgs.types import A\nfrom .utils import b\nfrom ..scene import c\n",
        "import utilsomething\nfrom scenery import x\nfrom os import path\n",
        '"""Says `from utils.ply import read_ply`."""\n# from scene import View\n',
        'text = "from utils import x"\nscene = 3\nutils.ply.read()\n',
        'Parser(prog="other.py")\nimport_module(f"{__name__}.scene")\nimport_module("json")\n',
    ],
)
def test_what_stays(text):
    assert relocate(text, "m.py", {"train.py": "iqgs-train"}) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nimport utils\n", "m.py:2: `import utils` cannot be installed below iqgs"),
        ("import scene.view\n", "m.py:1: `import scene.view` cannot be installed"),
        ('import_module("scene.view")\n', "m.py:1: a package is loaded by its name 'scene.view'"),
        ('importlib.import_module(f"utils.{x}")\n', "loaded by its name 'utils.'; begin with __n"),
    ],
)
def test_what_cannot_be_rewritten_is_named_with_its_line(text, said):
    with pytest.raises(RelocationError) as error:
        relocate(text, "m.py", {})
    assert said in str(error.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_of_the_repository_can_move(path):
    moved = relocate(path.read_text(encoding="utf-8"), str(path), program_names())
    tree = ast.parse(moved)
    assert moved.count("\n") == path.read_text(encoding="utf-8").count("\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module and node.module.split(".")[0] not in MOVED
    assert "sys.path.insert(" not in moved


@pytest.mark.parametrize("path", DOORS.values())
def test_every_door_has_a_main_without_parameters(path):
    functions = {
        node.name: node.args
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert ast.unparse(functions["main"]) == ""


def test_commands_point_to_the_doors():
    assert "iqgs-train = iqgs.doors.train:console" in entry_points()
    assert len(set(entry_points())) == len(DOORS)
    assert importlib.util.find_spec("iqgs.doors") is None  # else a package would be hidden
