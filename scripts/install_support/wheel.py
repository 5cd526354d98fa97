# SPDX-License-Identifier: Apache-2.0
"""The steps of setuptools that put everything below `iqgs`."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import find_packages

from .doors import CONSOLE, DOORS, module_of, program_names
from .relocate import HOME, RelocationError, relocate

ROOT = Path(__file__).resolve().parents[2]
RASTERIZER = ROOT / "submodules" / "diff-surfel-rasterization"

sys.path.insert(0, str(RASTERIZER))

from build_support.native import NAME, BuildNative, BuildPackage  # noqa: E402

sys.path.remove(str(RASTERIZER))

# Where a package's files lie in the repository.
TREES = {
    HOME: HOME,
    f"{HOME}.arguments": "arguments",
    f"{HOME}.gaussian_renderer": "gaussian_renderer",
    f"{HOME}.scene": "scene",
    f"{HOME}.utils": "utils",
    f"{HOME}.{NAME}": f"submodules/diff-surfel-rasterization/{NAME}",
}
REINSTALL = "pip install --force-reinstall --no-deps . in the folder of IQGS"


def all_packages() -> list[str]:
    """Names of all packages of a wheel."""
    names = []
    for package, folder in TREES.items():
        names += [package, *(f"{package}.{name}" for name in find_packages(str(ROOT / folder)))]
    return names


class BuildBelowHome(BuildPackage):
    """Copies the packages to their new places, then rewrites them."""

    package_folder = Path(HOME)

    def run(self) -> None:
        if self.editable_mode:
            raise SystemExit(
                "iqgs: an editable install cannot rewrite imports; work in the repository "
                "(python train.py), or install without -e"
            )
        super().run()
        try:
            self.rewrite(Path(self.build_lib) / HOME)
        except RelocationError as error:
            raise SystemExit(f"iqgs: {error}") from None

    def rewrite(self, package: Path) -> None:
        """The modules below `package`, and the doors beside them."""
        programs = program_names()
        for path in sorted(package.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            path.write_text(relocate(text, str(path), programs), encoding="utf-8")
        doors = package / "doors"
        doors.mkdir(exist_ok=True)
        licence = "# SPDX-License-Identifier: Apache-2.0\n"
        (doors / "__init__.py").write_text(
            f'{licence}"""The commands of an installed IQGS."""\n', encoding="utf-8"
        )
        for path_in_repository in DOORS.values():
            text = (ROOT / path_in_repository).read_text(encoding="utf-8")
            moved = relocate(text, path_in_repository, programs) + CONSOLE
            (doors / f"{module_of(path_in_repository)}.py").write_text(moved, encoding="utf-8")


class BuildNativeBelowHome(BuildNative):
    """The rasterizer's library, beside the rasterizer's package below `iqgs`."""

    package_folder = Path(HOME) / NAME
    again = REINSTALL


__all__ = ["NAME", "TREES", "BuildBelowHome", "BuildNativeBelowHome", "all_packages"]
