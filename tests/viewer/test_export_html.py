# SPDX-License-Identifier: Apache-2.0
"""The command: a run's folder alone becomes a page that a browser shows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from plyfile import PlyData

from arguments.viewing import ViewParams
from iqgs.engine.objects.live import export_object, open_view
from iqgs.engine.objects.opened import edited_objects, run_objects
from iqgs.engine.objects.recording import record_edits, undo_edit
from iqgs.engine.opening import open_run
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from iqgs.objects.edits import Remove
from scripts import export_html
from tests.engine.blobs import IDS, write_blobs
from tests.engine.conftest import SHORT
from utils.entry import run_command


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run whose scene is gone."""
    folder = tmp_path_factory.mktemp("page")
    scene = write_blobs(folder / "scene")
    settings = {**SHORT, "source_path": str(scene), "model_path": str(folder / "run")}
    assert train(resolve_run(settings)) == 0
    shutil.rmtree(scene)
    return folder / "run"


def knock(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["export_html.py", *arguments])
    return run_command(export_html.main)


def test_a_run_without_its_photographs_becomes_a_page(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock(monkeypatch, "-m", str(run_folder)) == 0
    path = run_folder / "objects/index.html"
    assert capsys.readouterr().out.startswith(str(path))
    assert path.stat().st_size > 20_000


def test_the_browser_shows_the_objects_of_the_run(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Any]
) -> None:
    path = tmp_path / "here.html"
    assert knock(monkeypatch, "-m", str(run_folder), "-o", str(path), "--title", "Spheres") == 0
    page = opened(path)
    assert page.evaluate("iqgs.ready") is True
    state = page.evaluate("iqgs.state()")
    assert state["count"] == len(open_run(run_folder).gaussians)
    assert {entry["id"] for entry in state["objects"]} <= {0, *IDS}
    assert page.inner_text("#title") == "Spheres"
    assert page.locator("#views option").count() == 1 + 9  # its photographs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "model_path (-m)"), (["-m", "nowhere"], "nowhere"), (["-m", "{run}", "-o", "."], "-o .")],
)
def test_a_mistake_is_one_sentence(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert knock(monkeypatch, *[text.format(run=run_folder) for text in arguments]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    assert said in line


def test_the_live_view_exports_what_other_programs_read(run_folder: Path) -> None:
    run = open_run(run_folder)
    objects = run_objects(run)
    number = objects.numbers()[0]
    said = export_object(run, objects.of(number), number)
    path = run_folder / "objects" / f"{number}.ply"
    assert said.startswith(str(path))
    vertices = PlyData.read(str(path))["vertex"]
    assert len(vertices) == int((objects.labels == number).sum())
    assert set(vertices["instance"].tolist()) == {number} and "scale_2" in vertices.data.dtype.names


def test_edits_are_shown_and_names_are_kept(run_folder: Path) -> None:
    run = open_run(run_folder)
    first, *others = run_objects(run).numbers()
    view = open_view(run, MagicMock(), ViewParams(model_path=str(run_folder), quiet=True))
    view.desk.choose(first)
    view.named.value = "teapot"
    view.named.on_update.call_args[0][0](None)
    assert edited_objects(run).names[first] == "teapot"
    record_edits(run, Remove((others[0],)))
    shown = run_objects(open_run(run_folder))
    assert others[0] not in shown.numbers() and shown.names[first] == "teapot"
    undo_edit(run)
    undo_edit(run)
    assert len(run_objects(open_run(run_folder))) == len(run.gaussians)


def test_a_page_opens_at_a_level_that_there_is(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    opened: Callable[..., Any],
) -> None:
    path = tmp_path / "parts.html"
    base = ("-m", str(run_folder), "-o", str(path), "--quiet")
    assert knock(monkeypatch, *base, "--level", "parts") == 0
    page = opened(path)
    page.evaluate("iqgs.ready")
    state = page.evaluate("iqgs.state()")
    assert state["level"] == 1 and {0, 1, 2} <= set(state["levels"])
    assert {entry["parent"] for entry in state["objects"] if "parent" in entry} & set(IDS)
    assert knock(monkeypatch, *base, "--level", "7") == 2
    assert "--level must be one of" in capsys.readouterr().err
    assert knock(monkeypatch, *base, "--no-levels", "--level", "1") == 2
    assert knock(monkeypatch, *base, "--no-levels") == 0
    plain = opened(path)
    assert plain.evaluate("iqgs.state()")["levels"] == [0]
