# SPDX-License-Identifier: Apache-2.0
"""edit.py over a trained run: what is written, what is refused, and that nothing is lost."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_erosion

from arguments.editing import parse_edit_arguments
from iqgs.engine.objects.commands import run_edit_command
from iqgs.engine.objects.opened import edited_objects, trained_objects
from iqgs.engine.objects.recording import record_edits, undo_edit
from iqgs.engine.opening import open_run
from iqgs.engine.run_folder import remove_results
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from iqgs.objects import edits
from utils.errors import DataError, UserError
from utils.ply import read_ply
from utils.run_lock import RunLock

from .blobs import IDS, SPHERES, cast, orbit
from .conftest import SHORT

ROOT = Path(__file__).resolve().parents[2]
Edit = Callable[..., list[str]]


@pytest.fixture(scope="module")
def trained(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three balls whose scene is not where it was."""
    folder = tmp_path_factory.mktemp("trained")
    scene = folder / "scene"
    shutil.copytree(blobs, scene)
    (scene / "labels.json").write_text(json.dumps({"id_to_name": {"3": "left", "7": "right"}}))
    settings = {"source_path": str(scene), "model_path": str(folder / "run"), "method": "vote"}
    assert train(resolve_run({**SHORT, "iterations": 150}, settings)) == 0
    scene.rename(folder / "elsewhere")
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def edit(run: Path) -> Edit:
    """edit("remove", "--id", "3") -> what is said."""

    def call(command: str, *words: str) -> list[str]:
        typed = [command, "-m", str(run), "--device", "cpu", "--threads", "1", "--quiet", *words]
        name, params = parse_edit_arguments(typed)
        return run_edit_command(name, open_run(run), params)

    return call


def snapshot(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


EDITS = {
    "remove": ["--id", "3"],
    "remove --hull": ["--id", "left", "--hull"],
    "remove --clean": ["--id", "left", "--clean"],
    "isolate": ["--id", "3", "7"],
    "recolor": ["--id", "3", "--color", "0,0,255"],
    "move": ["--id", "3", "--by", "-1,0,0.5", "--degrees", "-40", "--scale", "1.5"],
    "copy": ["--id", "3", "7", "--by", "0,1,0"],
    "merge": ["--id", "3", "7"],
    "split": ["--id", "300", "--plane", "0,0.2,-1.2,0,1,0"],
    "name": ["--id", "300", "--name", "middle"],
    "clean": [],
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_that_is_undone_leaves_no_trace(run: Path, edit: Edit, name: str) -> None:
    edit("extract-all")
    before, command = snapshot(run), name.split()[0]
    words = [*EDITS[name], *(["--no-score"] if command == "clean" else [])]
    said = edit(command, *words)
    assert command in said[-2] and "edits.jsonl" in said[-1]
    edited = edited_objects(open_run(run))
    after = snapshot(run)
    assert {path: after[path] for path in before} == before, "the trained files are not touched"
    lines = (run / "edits.jsonl").read_text().splitlines()
    for _ in lines[1:]:
        edit("undo")
    (run / "edits_undone.jsonl").rename(run.parent / "undone")
    shutil.rmtree(run / "edits", ignore_errors=True)
    edit("extract-all")
    assert snapshot(run) == before
    with pytest.raises(UserError, match="no edits to undo"):
        edit("undo")
    # And redo brings the same bits back.
    (run.parent / "undone").rename(run / "edits_undone.jsonl")
    for path, data in after.items():
        (run / path).parent.mkdir(exist_ok=True)
        if path.startswith("edits/"):
            (run / path).write_bytes(data)
    for _ in lines[1:]:
        edit("redo")
    assert snapshot(run) == after
    again = edited_objects(open_run(run))
    assert torch.equal(edited.labels, again.labels) and edited.names == again.names
    for key, values in edited.splats.params.items():
        assert torch.equal(values, again.splats.params[key])


def test_what_is_extracted_and_the_rest_are_the_whole(run: Path, edit: Edit) -> None:
    """Every splat is in exactly one file, and in it as in the file of the whole scene."""
    (said,) = edit("extract-all")
    files = sorted((run / "objects").glob("*.ply"))
    assert [path.stem for path in files] == ["3", "300", "7", "rest"] and "3 objects" in said
    parts = [read_ply(path) for path in files]
    for path, part in zip(files[:3], parts, strict=False):
        assert set(part["instance"].tolist()) == {int(path.stem)}
    opened = open_run(run)
    whole = read_ply(run / f"point_cloud/iteration_{opened.iteration}/point_cloud_viewer.ply")
    together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def rows(columns: dict[str, np.ndarray]) -> np.ndarray:
        return np.sort(np.rec.fromarrays([columns[name] for name in sorted(columns)]))

    assert (rows(together) == rows(whole)).all()
    edit("remove", "--id", "3")
    edit("extract", "--id", "all")
    assert not (run / "objects/3.ply").exists()


def test_an_object_is_cut_out_where_it_is_asked_for(run: Path, edit: Edit, tmp_path: Path) -> None:
    (said,) = edit("extract", "--id", "left")
    assert said.startswith(str(run / "objects/3.ply"))
    edit("extract", "--id", "left", "-o", str(tmp_path / "one.ply"))
    assert (tmp_path / "one.ply").read_bytes() == (run / "objects/3.ply").read_bytes()
    edit("extract", "--id", "3", "7", "-o", str(tmp_path / "several"))
    assert {path.name for path in (tmp_path / "several").iterdir()} == {"3.ply", "7.ply"}
    cleaned = edit("extract", "--id", "3", "--clean", "-o", str(tmp_path / "clean.ply"))
    assert not (run / "edits.jsonl").exists() and not (run / "edits").exists()
    assert "clean.ply" in cleaned[0]
    with pytest.raises(UserError, match="is a folder"):
        edit("extract", "--id", "3", "-o", str(tmp_path))
    with pytest.raises(UserError, match="is a file"):
        edit("extract-all", "-o", str(tmp_path / "one.ply"))


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("remove", ["--id", "5"], r"--id 5: no splat belongs to it; the run has \[3, 7, 300\]"),
        ("remove", ["--id", "cup"], "--id cup: no object has this name; the run has 3 'left'"),
        ("remove", ["--id", "5", "--clean"], "--id 5"),
        ("extract", ["--id", "5"], "--id 5"),
        ("merge", ["--id", "3", "--into", "5"], "--id 5"),
        ("merge", ["--id", "3"], "at least two"),
        ("move", ["--id", "3"], "changes nothing"),
        ("split", ["--id", "5"], "--id 5"),
        ("split", ["--id", "3", "--box", "50,50,50,51,51,51"], "stays in one piece"),
        ("name", ["--id", "3", "--name", "right"], "object 7 is called so"),
        ("name", ["--id", "3", "--name", "12"], "a name that is a number"),
        ("name", ["--id", "3", "7", "--name", "x"], "for one object"),
        ("remove", ["--box", "50,50,50,51,51,51"], "--box"),
        ("remove", ["--pixel", "0,0", "--view", "000.png"], "no object is seen"),
        ("remove", ["--pixel", "48,0", "--view", "000.png"], "48x36"),
        ("remove", ["--pixel", "3,3", "--view", "nope"], "no such view; it has 000.png"),
        ("redo", [], "no undone edit"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    run: Path, edit: Edit, command: str, words: list[str], message: str
) -> None:
    before = snapshot(run)
    with pytest.raises(UserError, match=message) as refused:
        edit(command, *words)
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)
    assert snapshot(run) == before


def test_objects_are_found_by_pixel_and_by_box(run: Path, edit: Edit) -> None:
    rotation, center, _ = orbit(1, 9)
    _, truth = cast(rotation, center)
    for number, (x, y, z, radius) in zip(IDS, SPHERES, strict=True):
        rows, columns = np.nonzero(binary_erosion(truth == number))
        where = f"{columns[len(columns) // 2]},{rows[len(rows) // 2]}"
        said = edit("name", "--pixel", where, "--view", "001", "--name", f"n{number}")
        assert f"{number}:" in said[0] or f"({number}):" in said[0]
        near = ",".join(str(c + s * 1.2 * radius) for s in (-1, 1) for c in (x, y, z))
        assert f"n{number} ({number}):" in edit("recolor", "--box", near, "--color", "9,9,9")[0]
    assert edited_objects(open_run(run)).names == {n: f"n{n}" for n in IDS}


def test_the_list_is_a_table_a_record_and_pictures(run: Path, edit: Edit) -> None:
    edit("copy", "--id", "left", "--by", "0,1,0")
    lines = edit("list")
    assert [line.split()[0] for line in lines[1:5]] == ["3", "7", "300", "301"]
    record = json.loads((run / "objects/objects.json").read_text())
    assert record["edits"] == 1 and record["format"] == 1
    assert [row["id"] for row in record["objects"]] == [3, 7, 300, 301]
    objects = edited_objects(open_run(run))
    for row in record["objects"]:
        assert row["splats"] == int((objects.labels == row["id"]).sum())
        picture = np.array(Image.open(run / "objects" / row["preview"]))
        shown = np.abs(picture.astype(int) - picture[0, 0]).sum(axis=2) > 60
        assert shown.mean() > 0.1, "the object fills a good part of its picture"
        assert not shown[:3].any() and not shown[:, -3:].any(), "and all of it is in it"
        assert row["view"] in {camera.name for camera in open_run(run).cameras.train}
    left, _, _, copy = record["objects"]
    assert copy["name"] == "left copy" and left["size"] == pytest.approx(copy["size"])
    assert np.subtract(copy["center"], left["center"]) == pytest.approx([0, 1, 0], abs=1e-5)
    assert (run / "objects/objects.png").is_file()
    edit("isolate", "--id", "3")
    edit("list", "--no-previews")
    assert "preview" not in json.loads((run / "objects/objects.json").read_text())["objects"][0]


def test_a_cleaned_run_opens_again_and_says_so(run: Path, edit: Edit) -> None:
    said = edit("clean")
    assert len(said) == 2, "without the scene there is nothing to compare with"
    cleaned = edited_objects(open_run(run))
    assert cleaned.hidden is not None and bool((cleaned.labels[cleaned.hidden > 0] == 0).all())
    assert set(cleaned.numbers()) == set(IDS)
    with pytest.raises(UserError, match="cleaned already"):
        edit("clean")
    edit("remove", "--id", "3", "--clean")
    assert len((run / "edits.jsonl").read_text().splitlines()) == 3
    (path,) = (run / "edits").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(DataError, match="is not the file that the edit names"):
        edit("list")
    path.unlink()
    with pytest.raises(DataError, match=r"cannot be read .*; an edit needs it"):
        edit("list")
    path.write_bytes(data)
    edit("undo")
    edit("undo")
    edit("name", "--id", "3", "--name", "x")  # nothing can be redone any more
    assert not (run / "edits").exists()


def test_cleaning_is_scored_where_the_scene_is(run: Path, edit: Edit) -> None:
    config = json.loads((run / "config.json").read_text())
    config["model"]["source_path"] = str(
        Path(config["model"]["source_path"]).with_name("elsewhere")
    )
    (run / "config.json").write_text(json.dumps(config))
    lines = [line for line in edit("clean") if "IoU" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["before", "after"]
    before, after = (float(line.split("IoU ")[1].split(",")[0]) for line in lines)
    assert 50 < before <= 100 and after > before - 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("not json\n", "line 1 is not a JSON object"),
        ('{"format": 2}\n', "line 1"),
        ('{"format": 1, "iteration": 1, "splats": 2}\n', "its edits were made on iteration 1"),
        ('HEAD\n{"edit": "burn"}\n', "line 2: 'burn' is none of the edits"),
        ('HEAD\n{"edit": "remove", "objects": [5]}\n', "line 2 cannot be replayed: there is no"),
        ('HEAD\n{"edit": "remove", "objects": [3]}\n{"edit": "name"', "line 3 is not a JSON"),
    ],
)
def test_a_script_that_cannot_be_used_is_said(
    run: Path, edit: Edit, text: str, message: str
) -> None:
    opened = open_run(run)
    head = {"format": 1, "iteration": opened.iteration, "splats": len(opened.gaussians)}
    (run / "edits.jsonl").write_text(text.replace("HEAD", json.dumps(head)))
    before = snapshot(run)
    for command in (["list"], ["extract-all"], ["remove", "--id", "3"]):
        with pytest.raises(UserError, match=message) as refused:
            edit(*command)
        assert "edits.jsonl" in str(refused.value) and "\n" not in str(refused.value)
    assert snapshot(run) == before
    assert trained_objects(open_run(run)).numbers() == sorted(IDS)


def test_programs_record_edits_all_or_none(run: Path, edit: Edit) -> None:
    before, opened = snapshot(run), open_run(run)
    with pytest.raises(UserError, match="there is no object 5"):
        record_edits(opened, edits.Name(3, "a"), edits.Remove((5,)))
    assert snapshot(run) == before
    after = record_edits(opened, edits.Name(3, "a"), edits.Remove((7,)))
    assert after.names == {3: "a"} == edited_objects(open_run(run)).names
    assert undo_edit(opened) == edits.Remove((7,))
    assert edited_objects(open_run(run)).names == {3: "a", 7: "right"}


def test_nobody_edits_what_somebody_else_holds(run: Path, edit: Edit) -> None:
    with RunLock(run):
        before = snapshot(run)
        with pytest.raises(UserError, match="is in use by process"):
            edit("remove", "--id", "3")
        assert snapshot(run) == before
        assert edit("log") == [f"{run} has no edits"]
    edit("remove", "--id", "3")
    assert not (run / ".lock").exists()
    (line,) = edit("log")
    assert line.startswith("1 ") and json.loads(line[2:])["objects"] == [3]


def test_a_run_that_is_begun_anew_has_no_edits(run: Path, edit: Edit) -> None:
    edit("remove", "--id", "3", "--clean")
    edit("undo")
    remove_results(run)
    assert not [path for path in run.iterdir() if "edits" in path.name]


def test_the_door(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("edit_door", ROOT / "scripts" / "edit.py")
    assert spec is not None and spec.loader is not None
    door = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(door)
    monkeypatch.setattr(sys, "argv", ["edit.py", "isolate", "-m", str(run), "--id", "left"])
    assert door.main() == 0
    assert "isolate left (3)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["edit.py", "isolate", "-m", str(run), "--id", "right"])
    assert door.run_command(door.main) == 2
    assert "error: --id right: no object has this name" in capsys.readouterr().err
