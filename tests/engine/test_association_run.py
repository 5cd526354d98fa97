# SPDX-License-Identifier: Apache-2.0
"""`associate_masks.py`: any masks and any splats in, masks that agree out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments.association import parse_association_arguments
from iqgs.engine.association_run import AssociationResult, associate_scene
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from utils.errors import UserError
from utils.images import write_id_map

from .blobs import IDS, write_blobs
from .conftest import SHORT

SPLATS = {"iterations": 500, "densify_until_iter": 300, "splat_cap": 800, "sh_interval": 150}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `fresh` masks, whose numbers are 1..n in every view, by size."""
    source = write_blobs(tmp_path_factory.mktemp("associate") / "scene", views=17)
    (source / "fresh").mkdir()
    (source / "labels.json").write_text(json.dumps({"id_to_name": {str(IDS[0]): "left ball"}}))
    for path in sorted((source / "object_mask").iterdir()):
        ids = np.asarray(Image.open(path)).astype(np.int64)
        fresh = np.zeros_like(ids)
        by_size = sorted(IDS, key=lambda value: -int((ids == value).sum()))
        for number, value in enumerate(by_size, 1):
            fresh[ids == value] = number
        write_id_map(source / "fresh" / path.name, fresh)
    return source


@pytest.fixture(scope="module")
def splats(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reconstructed(scene, tmp_path_factory.mktemp("associate") / "splats")


def reconstructed(scene: Path, folder: Path, primitive: str = "2dgs") -> Path:
    """The PLY of a short reconstruction."""
    config = {**SHORT, **SPLATS, "source_path": str(scene), "model_path": str(folder)}
    assert train(resolve_run({**config, "no_masks": True, "primitive": primitive})) == 0
    return folder / "point_cloud" / "iteration_500" / "point_cloud.ply"


def associated(*arguments: object) -> AssociationResult:
    return associate_scene(parse_association_arguments([str(word) for word in arguments]))


def test_fresh_ids_agree_afterwards(scene: Path, splats: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = associated(
        "-s", scene, "-o", "fresh", "--splats", splats, "--output", out, "--gt_path", "object_mask",
        "--quiet",
    )  # fmt: skip
    assert found.report["start"] == "graph" and len(found.report["objects"]) == 3
    assert found.report["identity"]["IDF1"] > 0.98 > found.report["identity_before"]["IDF1"]
    assert found.sheet is not None and Image.open(found.sheet).size[0] > 400
    names = sorted(path.name for path in out.glob("*.png"))
    assert names == sorted(path.name for path in (scene / "fresh").iterdir())
    # What was written trains, with ids that are the same in all views.
    config = {**SHORT, "source_path": str(scene), "start_ply": str(splats)}
    more = {"object_path": str(out), "model_path": str(tmp_path / "run")}
    assert train(resolve_run({**config, **more})) == 0
    table = json.loads((tmp_path / "run/ids.json").read_text())
    assert table["ignore_label"] == 65535 and 65535 not in table["ids"]
    assert not (tmp_path / "run" / "repaired_masks").exists()


def test_names_of_objects_are_kept(scene: Path, splats: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = associated("-s", scene, "--splats", splats, "--output", out, "--quiet")
    assert found.report["start"] == "given" and found.report["objects"][0]["name"] == "left ball"
    assert json.loads((out / "labels.json").read_text()) == {"id_to_name": {"3": "left ball"}}
    ids = {int(v) for p in out.glob("*.png") for v in np.unique(np.asarray(Image.open(p)))}
    assert ids - {0, 65535} == set(IDS)


def test_3d_gaussians_are_taken_as_they_are(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ellipsoids = reconstructed(scene, tmp_path / "run", "3dgs")
    words = ["--splats", ellipsoids, "--output", tmp_path / "out", "--gt_path", "object_mask"]
    found = associated("-s", scene, "-o", "fresh", "--quiet", *words)
    assert found.report["identity"]["IDF1"] > 0.98
    assert not any("made flat" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--splats", "nowhere.ply"], "--splats nowhere.ply: no such file"),
        (["--gt_path", "nowhere"], "--gt_path nowhere: no such folder"),
        (["--output", "{scene}/fresh"], "already there; pass --overwrite"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, scene: Path, splats: Path, tmp_path: Path
) -> None:
    words = [word.replace("{scene}", str(scene)) for word in arguments]
    if "--splats" not in words:
        words += ["--splats", str(splats)]
    if "--output" not in words:
        words += ["--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=message):
        associated("-s", scene, "-o", "fresh", "--quiet", *words)
    assert not (tmp_path / "out").exists()


def run_script(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).resolve().parents[2] / "scripts" / "associate_masks.py"
    words = [sys.executable, str(script), "-s", str(source), "--output", str(out), "--quiet"]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_sparse_points_stand_in_for_splats(scene: Path, tmp_path: Path) -> None:
    done = run_script(scene, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "180 sparse points stand for the surfaces" in done.stderr
    assert "3 objects in 17 views" in done.stdout
    assert sum("confidence" in line for line in done.stderr.splitlines()) == 1
    for path in (scene / "object_mask").iterdir():
        truth = np.asarray(Image.open(path))
        found = np.asarray(Image.open(tmp_path / "out" / path.name))
        assert (found == truth).mean() > 0.98


def test_too_few_points_are_named(tmp_path: Path) -> None:
    source = write_blobs(tmp_path / "scene", views=9, points=20)
    done = run_script(source, tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "60 sparse points are too few to join masks by; pass --splats" in done.stderr
    assert not (tmp_path / "out").exists()


def test_large_ids_come_out_in_sixteen_bits(scene: Path, splats: Path, tmp_path: Path) -> None:
    for path in (scene / "object_mask").iterdir():
        (tmp_path / "large").mkdir(exist_ok=True)
        ids = np.asarray(Image.open(path)).astype(np.int64)
        write_id_map(tmp_path / "large" / f"{path.stem}.tiff", np.where(ids > 7, ids + 99_700, ids))
    out = tmp_path / "out"
    large = {"-s": scene, "-o": tmp_path / "large", "--splats": splats, "--output": out}
    found = associated(*(word for pair in large.items() for word in pair), "--quiet")
    assert [row["id"] for row in found.report["objects"]] == [1, 3, 7]
    assert found.report["objects"][0]["was"] == [100_000]  # 300 moved up
    ids = {
        int(value)
        for path in (tmp_path / "out").glob("*.png")
        for value in np.unique(np.asarray(Image.open(path)))
    }
    assert ids - {65535} == {0, 1, 3, 7}
