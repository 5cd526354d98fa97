# SPDX-License-Identifier: Apache-2.0
"""What edit.py writes: files of objects, their list, cleaned and divided ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arguments.exporting import ExtractParams
from iqgs.engine.objects.extraction import extract_object
from iqgs.engine.objects.opened import edited_objects
from iqgs.engine.objects.previews import facing, shown_objects
from iqgs.engine.opening import open_run
from iqgs.methods.hard_labels import segment_by_labels
from iqgs.methods.protocol import SplatLabels
from iqgs.objects.catalog import ObjectEntry, entry_of
from scene.cameras import Camera
from utils.errors import DataError, UserError
from utils.geometry import look_at
from utils.ply import read_ply, read_ply_file, write_ply

from .blobs import IDS

REST = "rest.ply"
Edit = Callable[..., list[str]]


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
    target = run.parent / "with_pictures"
    edit("extract-all", "--previews", "-o", str(target))
    rows = json.loads((target / "objects.json").read_text())["objects"]
    assert {f"{row['id']}.ply" for row in rows} == {p.name for p in target.glob("*.ply")} - {REST}
    assert all((target / row["preview"]).is_file() for row in rows)
    assert not (run / "objects/objects.json").exists()
    edit("extract", "--id", "7", "-o", str(run.parent / "right"))
    assert (run.parent / "right.ply").read_bytes() == (run / "objects/7.ply").read_bytes()


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
    # Without pictures, those of objects that have not changed stay named; of others they are old.
    edit("isolate", "--id", "3", "7")
    edit("recolor", "--id", "7", "--color", "#102030")
    edit("list", "--no-previews")
    rows = json.loads((run / "objects/objects.json").read_text())["objects"]
    assert rows[0] == left and "preview" not in rows[1]
    (run / "objects/previews/3.png").unlink()
    edit("list", "--no-previews")
    rows = json.loads((run / "objects/objects.json").read_text())["objects"]
    assert "preview" not in rows[0]


def test_a_preview_stands_upright() -> None:
    """Up is up in the picture of what the camera sees off its middle, unless it looks along up."""
    pose = torch.from_numpy(look_at(np.array([0.0, -4.0, 2.0]), np.zeros(3), np.eye(3)[2]))
    camera = Camera(pose, 100.0, 100.0, 50.0, 40.0, 100, 80, "a.png", 0)
    low, high = (2.0, 1.0, -0.1), (2.2, 1.2, 0.1)
    entry = ObjectEntry(3, "", None, 1, low, high, (0.0, 0.0, 0.0), 1.0)
    upright = facing(camera, entry, 64, (0.0, 0.0, 1.0)).world_to_view[:3, :3].numpy()
    assert abs((upright @ [0, 0, 1])[0]) < 1e-6 and (upright @ [0, 0, 1])[1] < 0
    rolled = facing(camera, entry, 64, None).world_to_view[:3, :3].numpy()
    assert abs((rolled @ [0, 0, 1])[0]) > 0.05
    along = facing(camera, entry, 64, tuple(entry.center - camera.center.numpy()))
    assert np.allclose(along.world_to_view[:3, :3].numpy(), rolled)


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


def test_parts_are_meant_with_their_whole(run: Path, edit: Edit, tmp_path: Path) -> None:
    before = edited_objects(open_run(run))
    edit("parts", "--id", "left", "--count", "3")
    objects = edited_objects(open_run(run))
    new = [number for number in objects.numbers() if number > 300]
    assert len(new) >= 2 and 3 not in objects.numbers()
    assert torch.equal(torch.isin(objects.labels, torch.tensor(new)), before.labels == 3)
    edit("list", "--no-previews")
    record = json.loads((run / "objects/objects.json").read_text())
    assert {
        row["id"]: row["parent"] for row in record["objects"] if row["id"] > 300
    } == dict.fromkeys(new, 3)
    assert record["wholes"] == [{"id": 3, "name": "left", "parent": None, "parts": new}]
    edit("extract", "--id", "left", "--level", "0", "-o", str(tmp_path / "whole.ply"))
    assert len(read_ply(tmp_path / "whole.ply")["x"]) == int((before.labels == 3).sum())
    params = ExtractParams(model_path=str(run), id="3", output=str(tmp_path / "same.ply"))
    extract_object(open_run(run), params)
    assert (tmp_path / "same.ply").read_bytes() == (tmp_path / "whole.ply").read_bytes()
    with pytest.raises(UserError, match=r"--id left: consists of parts \[301, 302"):
        edit("split", "--id", "left")
    # All parts turn about one middle, so that the whole keeps its shape.
    edit("move", "--id", "left", "--degrees", "180")
    center = entry_of(before, 3).center
    moved = edited_objects(open_run(run)).splats.means[before.labels == 3]
    still = before.splats.means[before.labels == 3]
    axis = torch.tensor(before.frame.up or (0.0, 0.0, 1.0))
    arm = still - torch.tensor(center)
    wanted = torch.tensor(center) + 2 * (arm @ axis)[:, None] * axis - arm  # half a turn
    assert torch.allclose(moved, wanted, atol=1e-4)
    edit("remove", "--id", "left")
    assert edited_objects(open_run(run)).numbers() == [7, 300]


def test_cleaning_mends_labels_and_is_scored_where_the_scene_is(run: Path, edit: Edit) -> None:
    """A fifth of the splats say that they belong to somebody else than their views show."""
    config = json.loads((run / "config.json").read_text())
    scene = Path(config["model"]["source_path"]).with_name("elsewhere")
    config["model"]["source_path"] = str(scene)
    (run / "config.json").write_text(json.dumps(config))
    path = run / f"point_cloud/iteration_{open_run(run).iteration}/point_cloud.ply"
    file = read_ply_file(path)
    columns = file.elements["vertex"]
    rng = np.random.default_rng(0)
    wrong = rng.random(len(columns["x"])) < 0.2
    columns["instance"][wrong] = rng.choice(IDS, int(wrong.sum()))
    write_ply(path, columns, file.comments)
    lines = [line for line in edit("clean") if "IoU" in line]
    named = [line.split(":")[0].strip() for line in lines]
    assert named == ["before", "after", "after, extracted with --instance_opacity"]
    before, after, _ = (float(line.split("IoU ")[1].split(",")[0]) for line in lines)
    assert "PSNR" not in lines.pop()  # the scene itself stays as it is
    assert 20 < before < after - 2
    pictures = [float(line.split("scene ")[1]) for line in lines]
    assert pictures[1] > pictures[0] - 0.5


def test_extracted_splats_are_as_opaque_as_they_are_surely_the_objects(
    run: Path, edit: Edit, tmp_path: Path
) -> None:
    target = tmp_path / "left.ply"
    with pytest.raises(UserError, match="--instance_opacity needs the votes of --clean"):
        edit("extract", "--id", "left", "--instance_opacity", "-o", str(target))
    assert not target.exists()
    edit("clean", "--no-score")
    cleaned = edited_objects(open_run(run)).of(3)
    edit("extract", "--id", "left", "--instance_opacity", "-o", str(target))
    found = 1 / (1 + np.exp(-read_ply(target)["opacity"].astype(np.float64)))
    whole = cleaned.splats.opacities.detach()[:, 0].double().numpy()
    sure = cleaned.confidence.double().numpy()
    assert sure.min() < 0.9 < sure.max()
    np.testing.assert_allclose(found, np.maximum(whole * sure, 1e-6), rtol=1e-4)
    # The scene itself is as it was, and so is an object that is extracted without the flag.
    edit("extract", "--id", "left", "-o", str(target))
    found = 1 / (1 + np.exp(-read_ply(target)["opacity"].astype(np.float64)))
    np.testing.assert_allclose(found, whole, rtol=1e-4)
    edit("undo")
    edit("extract-all", "--clean", "--instance_opacity", "-o", str(tmp_path / "all"))
    same = read_ply(tmp_path / "all/3.ply")["opacity"].astype(np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(-same)), np.maximum(whole * sure, 1e-6), rtol=1e-4)


def test_what_a_view_shows_is_that_of_each_objects_share(run: Path) -> None:
    """One list of weights against a picture of every object's share."""
    opened = open_run(run)
    objects = edited_objects(opened)
    speaks = SplatLabels(objects.labels, torch.ones(len(objects)), "global")
    for camera in opened.cameras.train[:3]:
        lens = opened.renderer.lens(camera, objects.splats)
        wanted = segment_by_labels(lens, speaks, panoptic=False).label_map.numpy()
        found = shown_objects(lens, objects.labels)
        assert len(np.unique(wanted)) > 2
        assert (found == wanted).mean() > 0.98  # weights below one grey level are not listed
