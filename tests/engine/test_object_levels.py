# SPDX-License-Identifier: Apache-2.0
"""A run looked at from groups of objects to parts: what commands write, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments.exporting import ExportParams, ExtractParams, ObjectsParams
from arguments.levels import LevelParams
from iqgs.engine.objects import leveling
from iqgs.engine.objects.exporting import export
from iqgs.engine.objects.extraction import extract_object
from iqgs.engine.objects.folder import write_objects
from iqgs.engine.objects.leveling import run_granularity
from iqgs.engine.objects.live import export_object, level_of
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.opening import open_run
from scene.masks import FORMATS, MaskContent, MaskLayers
from scene.splat_files.splat_file import read_splats
from utils.errors import UserError

from .blobs import IDS

Edit = Callable[..., list[str]]
PARAMS = LevelParams(quiet=True)


def listed(run: Path) -> dict[int, int | None]:
    """Number and parent of each object of objects.json at level 1."""
    record = json.loads((run / "objects/level1/objects.json").read_text())
    return {row["id"]: row["parent"] for row in record["objects"]}


def test_commands_take_objects_at_a_level(run: Path, edit: Edit, tmp_path: Path) -> None:
    before = edited_objects(open_run(run))
    edit("list", "--no-previews", "--level", "parts")
    parents = listed(run)
    divided = {whole for whole in parents.values() if whole is not None}
    assert divided and divided <= set(IDS)
    record = json.loads((run / "objects/level1/objects.json").read_text())
    wholes = {row["id"]: row["parts"] for row in record["wholes"]}  # groups are among them
    assert set(wholes) >= divided and all(len(wholes[number]) <= 4 for number in divided)
    # The files of all parts hold each splat once.
    edit("extract-all", "--level", "1", "-o", str(tmp_path / "all"))
    files = {path.stem: len(read_splats(path)) for path in (tmp_path / "all").iterdir()}
    assert sum(files.values()) == len(before)
    assert {int(name) for name in files if name != "rest"} == set(parents)
    # A whole means its parts, for every command that takes --id.
    number = min(divided)
    parts = [part for part, whole in parents.items() if whole == number]
    said = edit("extract", "--id", str(number), "--level", "1", "-o", str(tmp_path / "parts"))
    assert len(said) == len(parts)
    params = {"model_path": str(run), "level": "1", "quiet": True}
    target = str(tmp_path / "whole.ply")
    export(ExportParams(id=(str(number),), output=target, **params))
    file = read_splats(Path(target))
    assert file.labels is not None and set(file.labels.tolist()) == set(parts)
    assert len(file) == int((before.labels == number).sum())
    extract_object(open_run(run), ExtractParams(id=str(parts[0]), output=target, **params))
    assert len(read_splats(Path(target))) == files[str(parts[0])]
    write_objects(
        open_run(run), ObjectsParams(mesh=False, hull="none", output=str(tmp_path / "o"), **params)
    )
    assert {int(p.name) for p in (tmp_path / "o").iterdir() if p.name.isdigit()} == set(parents)


def test_files_of_a_level_leave_those_of_the_objects_alone(run: Path, edit: Edit) -> None:
    """Parts and groups have numbers of their own, which later edits may give to other objects."""
    edit("list")
    edit("extract-all")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    params = {"model_path": str(run), "level": "parts", "quiet": True}
    edit("list", "--level", "parts")
    part = min(number for number, whole in listed(run).items() if whole is not None)
    edit("extract-all", "--level", "parts")
    edit("extract", "--id", str(part), "--level", "parts")
    extract_object(open_run(run), ExtractParams(id=str(part), **params))
    write_objects(open_run(run), ObjectsParams(mesh=False, hull="none", **params))
    export(ExportParams(id=("7",), format="ply", **params))
    export(ExportParams(format="ply", model_path=str(run), quiet=True))
    export(ExportParams(format="ply", **params))
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    folder = run / "objects/level1"
    rows = json.loads((folder / "objects.json").read_text())["objects"]
    assert json.loads((folder / "objects.json").read_text())["level"] == 1
    assert {p.name for p in folder.glob("*.ply")} - {"rest.ply"} == {f"{r['id']}.ply" for r in rows}
    new = {path.relative_to(run).parts[:2] for path in after.keys() - before.keys()}
    plain, other = (read_splats(run / f"exports/scene{end}.ply") for end in ("", "_level1"))
    assert len(plain) == len(other)
    assert set(plain.labels.tolist()) != set(other.labels.tolist())
    assert {folder for folder in new if folder[0] == "objects"} == {
        ("objects", "level1"),
        ("objects", "levels-splats.npz"),
    }


def test_the_window_exports_where_extract_does(run: Path) -> None:
    opened = open_run(run)
    objects = edited_objects(opened)
    levels = run_granularity(opened, objects, PARAMS)
    for level in (-1, 1):
        (number, *_) = set(levels.labels[level].tolist()) - {0, *objects.numbers()}
        assert level_of(objects, levels, number) == level
        seen = levels.at(objects, level)
        said = export_object(opened, seen.of(number), number, level)
        assert said.startswith(str(run / f"objects/level{level}/{number}.ply"))
    assert level_of(objects, levels, 3) is None and level_of(objects, None, 3) is None


def test_a_list_keeps_the_files_that_objects_have(run: Path, edit: Edit) -> None:
    """`objects.py` names files in objects.json; a list keeps them while they are true."""
    write_objects(open_run(run), ObjectsParams(mesh=False, model_path=str(run), quiet=True))
    first = json.loads((run / "objects/objects.json").read_text())["objects"]
    assert all(row["files"]["splats"] for row in first)
    edit("list", "--no-previews")
    assert json.loads((run / "objects/objects.json").read_text())["objects"] == first
    edit("move", "--id", "3", "--by", "0,1,0")
    edit("list")
    moved, *others = json.loads((run / "objects/objects.json").read_text())["objects"]
    assert "files" not in moved and others == first[1:]
    (run / "objects/objects.json").write_text("no JSON")
    edit("list", "--no-previews")
    assert "files" not in json.loads((run / "objects/objects.json").read_text())["objects"][1]


def test_the_tree_is_found_once_for_the_same_objects(
    run: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_granularity(open_run(run), edited_objects(open_run(run)), PARAMS)
    found: list[int] = []
    real = leveling.splat_division

    def counted(*values: object) -> object:
        found.append(1)
        return real(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(leveling, "splat_division", counted)
    again = run_granularity(open_run(run), edited_objects(open_run(run)), PARAMS)
    assert not found and again.names == first.names and again.parents == first.parents
    assert all((again.labels[level] == first.labels[level]).all() for level in first.labels)
    (run / "objects/levels-splats.npz").write_bytes(b"PK\x03\x04 broken")
    run_granularity(open_run(run), edited_objects(open_run(run)), PARAMS)
    edit("remove", "--id", "3")
    other = run_granularity(open_run(run), edited_objects(open_run(run)), PARAMS)
    assert len(found) == 2 and 3 not in set(other.labels[0].tolist())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "9"], r"--level 9: there is no level 9; there are .*0, 1, 2"),
        (["--level", "pieces"], "--level must be a whole number, or one of groups, objects, parts"),
        (["--level", "1", "--level_source", "masks"], "has no overlapping masks"),
        (["--level", "1", "--id", "nobody"], "unrecognized"),
    ],
)
def test_what_there_is_not_is_said(run: Path, edit: Edit, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        edit("list", "--no-previews", *words)
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)
    assert not (run / "objects/objects.json").exists()


def test_a_file_has_one_level(tmp_path: Path) -> None:
    path = tmp_path / "some.ply"
    path.touch()
    with pytest.raises(UserError, match="--level must be left out for a file"):
        ExportParams(model_path=str(path), output="a.glb", level="1")


def test_overlapping_masks_say_what_belongs_together(run: Path, edit: Edit, tmp_path: Path) -> None:
    """Each sphere has a left and a right half, and two spheres are one thing."""
    config = json.loads((run / "config.json").read_text())
    scene = tmp_path / "scene"
    shutil.copytree(Path(config["model"]["source_path"]).with_name("elsewhere"), scene)
    config["model"]["source_path"] = str(scene)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="object_mask_layers and object_mask were looked at"):
        edit("list", "--no-previews", "--level", "1", "--level_source", "masks")
    for path in sorted((scene / "object_mask").iterdir()):
        ids = np.array(Image.open(path))
        masks = [np.isin(ids, (3, 7)), *(ids == number for number in IDS)]
        bits = np.array([np.packbits(mask) for mask in masks if mask.any()])
        layers = MaskLayers.from_bits(ids.shape, bits)
        target = scene / "object_mask_layers" / f"{path.stem}.npz"
        target.parent.mkdir(exist_ok=True)
        FORMATS["id_npy"].write(target, MaskContent.of_layers(layers, "view"))
    edit("list", "--no-previews", "--level", "groups", "--level_source", "masks")
    record = json.loads((run / "objects/level-1/objects.json").read_text())
    (whole,) = [row["name"] for row in record["objects"] if row["id"] not in IDS]
    assert sorted(whole.split(" + ")) == ["left", "right"]
    assert {row["id"] for row in record["objects"]} > {300}
