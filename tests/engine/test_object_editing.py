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
from scipy.ndimage import binary_erosion

from iqgs.engine.objects.opened import edited_objects, trained_objects
from iqgs.engine.objects.recording import record_edits, undo_edit
from iqgs.engine.opening import open_run
from iqgs.engine.run_folder import remove_results
from iqgs.objects import edits
from utils.errors import UserError
from utils.run_lock import RunLock

from .blobs import IDS, SPHERES, cast, orbit

ROOT = Path(__file__).resolve().parents[2]
Edit = Callable[..., list[str]]


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
    "parts": ["--id", "3", "--count", "2"],
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


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (
            "remove",
            ["--id", "5"],
            "--id 5: no splat belongs to it; there are 3 'left', 7",
        ),
        ("remove", ["--id", "cup"], "--id cup: no object has this name; there are 3 'left'"),
        ("remove", ["--id", "5", "--clean"], "--id 5"),
        ("extract", ["--id", "5"], "--id 5"),
        ("merge", ["--id", "3", "--into", "5"], "--id 5"),
        ("merge", ["--id", "3"], "at least two"),
        ("move", ["--id", "3"], "move changes nothing"),
        ("copy", ["--id", "3"], "copy changes nothing"),
        ("split", ["--id", "5"], "--id 5"),
        ("split", ["--id", "3", "--box", "50,50,50,51,51,51"], "stays in one piece"),
        ("name", ["--id", "3", "--name", "right"], "object 7 is called so"),
        ("name", ["--id", "3", "--name", "12"], "would be taken for a number"),
        ("name", ["--id", "3", "--name", "all"], "would be taken for every object"),
        ("name", ["--id", "3", "--name", "a\tb"], "nobody can type"),
        ("remove", ["--id", "Left"], "did you mean 'left'"),
        ("move", ["--id", "3", "--by", "1e39,0,0"], "farther than 1e\\+09 from the origin"),
        ("copy", ["--id", "3", "--by", "0,1e12,0"], "farther than 1e\\+09 from the origin"),
        ("move", ["--id", "3", "--scale", "1e30"], "--scale must be within"),
        ("recolor", ["--id", "3", "--color", "blue"], "--color must be #rrggbb, or R,G,B in"),
        ("split", ["--id", "3", "--plane", "0,0,0,0,0,0"], "a normal that is not 0"),
        ("split", ["--id", "3", "--plane", "0,0,99,0,0,1"], "no splat of it lies beyond the plane"),
        ("split", ["--id", "3", "--box", "1,1,1,0,0,0"], "each least value below the largest"),
        ("extract", ["--id", "3", "-o", "a.glb"], "-o a.glb: a .ply file is written here"),
        ("extract", ["--id", "3", "7", "-o", "a.ply"], r"a folder for several objects \(3, 7"),
        ("extract", ["--id", "all", "-o", "a.ply"], "-o a.ply is named as a file; name a folder"),
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
