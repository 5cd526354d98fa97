# SPDX-License-Identifier: Apache-2.0
"""`pip install .` in an empty environment: one package, commands that work from any folder, and
other projects' packages of the family's names left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from install_support.doors import DOORS
from tests.engine.blobs import write_blobs

ROOT = Path(__file__).resolve().parents[2]
SHORT = {
    "--iterations": "30",
    "--instance_iterations": "20",
    "--pixels_per_step": "256",
    "--splat_cap": "300",
    "--background_seeds": "0",
    "--threads": "1",
}
SMALL_ROOM = {
    "--width": "32",
    "--height": "24",
    "--views": "5",
    "--samples": "1",
    "--points": "50",
    "--workers": "2",
}

pytestmark = pytest.mark.slow
Shell = Callable[..., subprocess.CompletedProcess[str]]


def words(settings: dict[str, str]) -> list[str]:
    return [word for setting in settings.items() for word in setting]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with torch and the like from the one that runs this."""
    folder = tmp_path_factory.mktemp("install")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    isolation = ["--no-build-isolation", "--no-deps", "-q", "-w", str(folder)]
    run([*pip, "wheel", *isolation, str(ROOT)], ROOT, IQGS_CUDA="0")
    (wheel,) = folder.glob("*.whl")
    made = folder / "environment"
    venv.create(made, with_pip=False)
    target = ["--python", str(made / "bin" / "python"), "install"]
    run([*pip, *target, "-q", "--no-deps", "--no-index", str(wheel)], folder)
    (packages,) = made.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return made


def run(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run to a good end; without the repository on any path."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=folder, env={**kept, **more}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture
def shell(environment: Path, tmp_path: Path) -> Shell:
    """shell(command, argument, ...) in an empty folder, with what is installed."""

    def call(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([str(environment / "bin" / command), *arguments], tmp_path)

    return call


def test_one_package_and_one_command_a_door(environment):
    (packages,) = environment.glob("lib/python*/site-packages")
    (record,) = packages.glob("iqgs-*.dist-info/RECORD")
    names = [line.split(",")[0] for line in record.read_text().splitlines()]
    tops = {name.split("/")[0] for name in names if not name.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"iqgs"}
    assert {Path(name).name for name in names if "/bin/" in name} == set(DOORS)
    requirements = (record.parent / "METADATA").read_text()
    assert "Requires-Dist: torch<3,>=2.4" in requirements


@pytest.mark.parametrize("command", DOORS)
def test_every_command_helps_under_its_own_name(shell, command):
    assert shell(command, "--help").stdout.startswith(f"usage: {command} ")


def test_a_run_from_another_folder(shell, tmp_path):
    write_blobs(tmp_path / "scene")
    shell("iqgs-train", "-s", "scene", "-m", "run", "--eval", "--quiet", *words(SHORT))
    assert "run/test/ours_50" in shell("iqgs-render", "-m", "run", "--skip_train").stdout
    assert "mIoU" in shell("iqgs-evaluate", "-m", "run").stdout
    assert shell("iqgs-extract-object", "-m", "run", "--id", "7").stdout.startswith("run/objects/7")
    assert shell("iqgs-export-html", "-m", "run").stdout.startswith("run/objects/index.html")
    assert (
        shell("iqgs-make-synthetic-scene", "room", *words(SMALL_ROOM))
        .stdout.strip()
        .endswith("room")
    )


def test_another_projects_utils_can_be_imported_beside_it(shell, tmp_path):
    for name in ("utils", "scene", "arguments", "gaussian_renderer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"NAME = {name!r}\n")
    code = (
        "import iqgs.engine.training, iqgs.utils.ply; from utils import mine as u; "
        "from scene import mine as s; from arguments import mine as a; "
        "from gaussian_renderer import mine as g; print(u.NAME, s.NAME, a.NAME, g.NAME)"
    )
    assert shell("python", "-c", code).stdout == "utils scene arguments gaussian_renderer\n"


def test_its_rasterizer_is_compiled_and_works_beside_another_copy(shell):
    code = (
        "import torch, diff_surfel_rasterization as one, iqgs.diff_surfel_rasterization as two\n"
        "assert one.__file__ != two.__file__\n"
        "t = lambda *rows: torch.tensor(rows)\n"
        "for d in (one, two):\n"
        "    s = d.Surfels(t([0., 0, 2]), t([.2, .2]), t([1., 0, 0, 0]), t([.9]), t([1., 1, 1]))\n"
        "    v = d.RasterSettings(16, 16, 16., 16., 8., 8., torch.eye(4), torch.zeros(3))\n"
        "    print(d.available_backends()[-2:], float(d.rasterize(s, v).alpha.sum()) > 1)\n"
    )
    said = shell("python", "-c", code).stdout.splitlines()
    assert said[1] == "('cpu', 'reference') True" and said[0].endswith("True")


def test_an_editable_install_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "-q",
         "--target", str(tmp_path), "-e", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "iqgs: an editable install cannot rewrite imports; work in the repository" in done.stderr
