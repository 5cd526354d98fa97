# SPDX-License-Identifier: Apache-2.0
"""The small scene and short runs that the engine's tests share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from arguments import RunConfig
from arguments.editing import parse_edit_arguments
from iqgs.engine.objects.commands import run_edit_command
from iqgs.engine.opening import open_run
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train

from .blobs import write_blobs

SHORT = {
    "iterations": 20,
    "instance_iterations": 20,
    "eval": True,
    "quiet": True,
    "pixels_per_step": 256,
    "densification_interval": 5,
    "densify_from_iter": 4,
    "densify_until_iter": 16,
    "splat_cap": 260,
    "background_seeds": 0,
    "threads": 1,
    "test_iterations": [-1],
    "sh_interval": 8,
    "normal_from_iter": 10,
}
LEARNED = {
    "iterations": 800,
    "instance_iterations": 300,
    "densify_until_iter": 480,
    "splat_cap": 900,
    "sh_interval": 150,
    "normal_from_iter": 300,
    "pixels_per_step": 512,
}


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the three-sphere scene."""
    return write_blobs(tmp_path_factory.mktemp("blobs") / "scene")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(scene, run): the three spheres, learned by id."""
    folder = tmp_path_factory.mktemp("learned")
    scene = write_blobs(folder / "scene", views=17)
    settings = {**SHORT, **LEARNED, "source_path": str(scene), "model_path": str(folder / "run")}
    assert train(resolve_run(settings)) == 0
    return scene, folder / "run"


@pytest.fixture
def make_config(blobs: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """make_config(name, **settings) -> settings of a short run in its own folder."""

    def make(name: str, **settings: object) -> RunConfig:
        return resolve_run(
            SHORT, {"source_path": str(blobs), "model_path": str(tmp_path / name), **settings}
        )

    return make


@pytest.fixture
def settings(blobs: Path) -> Callable[..., dict[str, object]]:
    """settings(folder, **changes) -> flat settings of a run with two views a step."""

    def make(folder: Path, **changes: object) -> dict[str, object]:
        own = {"source_path": str(blobs), "model_path": str(folder), "batch_size": 2}
        return {**SHORT, **own, **changes}

    return make


@pytest.fixture(scope="session")
def labelled_run(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three balls whose scene is not where it was."""
    folder = tmp_path_factory.mktemp("labelled")
    scene = folder / "scene"
    shutil.copytree(blobs, scene)
    (scene / "labels.json").write_text(json.dumps({"id_to_name": {"3": "left", "7": "right"}}))
    settings = {"source_path": str(scene), "model_path": str(folder / "run"), "method": "vote"}
    assert train(resolve_run({**SHORT, "iterations": 150}, settings)) == 0
    scene.rename(folder / "elsewhere")
    return folder / "run"


@pytest.fixture
def run(labelled_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(labelled_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def edit(run: Path) -> Callable[..., list[str]]:
    """edit("remove", "--id", "3") -> what is said."""

    def call(command: str, *words: str) -> list[str]:
        typed = [command, "-m", str(run), "--device", "cpu", "--threads", "1", "--quiet", *words]
        name, params = parse_edit_arguments(typed)
        return run_edit_command(name, open_run(run), params)

    return call
