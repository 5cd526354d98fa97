# SPDX-License-Identifier: Apache-2.0
"""One report of everything that is wrong with the masks of a scene: a bad example of each kind."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from arguments import ModelParams
from arguments.mask_commands import parse_check_arguments
from arguments.masks import CheckParams
from iqgs.preparation.mask_check import MaskReport, check_masks
from scene.dataset import load_scene
from scene.masks import KINDS, read_mask_file, write_about
from scripts import check_masks as door
from utils.entry import run_command
from utils.errors import MaskError, UserError
from utils.images import write_id_map

from .shapes import box, write_scene

NAMES = [f"{k:03d}.jpg" for k in range(8)]


def good_masks(source: Path) -> Path:
    """Ids 3 and 7 in every view."""
    for name in NAMES:
        ids = np.zeros((30, 40), np.int32)
        ids[box(4, 4, 16, 14)], ids[box(20, 16, 36, 26)] = 3, 7
        path = source / "object_mask" / Path(name).with_suffix(".png")
        path.parent.mkdir(exist_ok=True)
        write_id_map(path, ids)
    return source


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return good_masks(write_scene(tmp_path / "scene", NAMES))


def checked(source: Path, check: CheckParams | None = None, **changes: Any) -> MaskReport:
    return check_masks(check or CheckParams(), ModelParams(str(source), **changes))


def first(source: Path) -> Path:
    return source / "object_mask/000.png"


def change(source: Path, edit: Callable[[np.ndarray], Any], names: slice = slice(1)) -> None:
    """Change the ids of some masks: in place, or to what `edit` returns."""
    for path in sorted((source / "object_mask").glob("*.png"))[names]:
        ids = np.asarray(Image.open(path)).astype(np.int32)
        changed = edit(ids)
        write_id_map(path, ids if changed is None else changed)


def put(*boxes: tuple[int, tuple[int, int, int, int]]) -> Callable[[np.ndarray], None]:
    def edit(ids: np.ndarray) -> None:
        for number, (left, top, right, bottom) in boxes:
            ids[top:bottom, left:right] = number

    return edit


def colored(source: Path, names: slice = slice(None)) -> None:
    for path in sorted((source / "object_mask").glob("*.png"))[names]:
        ids = np.asarray(Image.open(path))
        pixels = np.zeros((*ids.shape, 3), np.uint8)
        pixels[ids == 3], pixels[ids == 7] = (250, 10, 20), (3, 220, 91)
        Image.fromarray(pixels).save(path)


def photograph_like(source: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)).save(first(source))


def lossy(source: Path) -> None:
    Image.open(first(source)).convert("L").save(first(source).with_suffix(".jpg"))
    first(source).unlink()


def twice_named(source: Path) -> None:
    """Photographs of the same name in two folders, masks in one."""
    shutil.rmtree(source)
    write_scene(source, ["one/000.jpg", "two/000.jpg"])
    (source / "object_mask").mkdir()
    write_id_map(first(source), np.ones((30, 40), np.int32))


def data_set(source: Path) -> None:
    items = [
        {"image_id": k, "segmentation": {"size": [30, 40], "counts": [600, 600]}} for k in (1, 2)
    ]
    first(source).unlink()
    first(source).with_suffix(".json").write_text(json.dumps(items))


def negative(source: Path) -> None:
    first(source).unlink()
    np.save(first(source).with_suffix(".npy"), np.full((30, 40), -5))


def unclear_turn(source: Path) -> None:
    """A photograph that its tag turns by half, and a mask that does not say how it lies."""
    turned(source, 3)


def turned(source: Path, code: int) -> None:
    for name in NAMES:
        path = source / "images" / name
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = code
        Image.open(path).save(path, exif=exif.tobytes())


def turned_plainly(source: Path) -> None:
    """By a quarter, and masks as people see the photograph."""
    turned(source, 6)
    change(source, lambda ids: np.ascontiguousarray(np.rot90(ids, -1)), slice(None))


def palettes(source: Path) -> None:
    for number, path in enumerate(sorted((source / "object_mask").glob("*.png"))):
        image = Image.fromarray(np.asarray(Image.open(path)).astype(np.uint8), "P")
        image.putpalette([0, 0, 0] + [10 * number, 90, 30] * 255)
        image.save(path)


def lists(source: Path) -> None:
    bits = np.stack([box(4, 4, 16, 14), box(2, 2, 36, 26)])
    for path in sorted((source / "object_mask").glob("*.png")):
        np.savez(path.with_suffix(".npz"), masks=bits)
        path.unlink()


def specks(source: Path) -> None:
    marks = [(10 + k, (2 + 2 * k, 28, 4 + 2 * k, 29)) for k in range(8)]
    change(source, put(*marks), slice(None))


Break = Callable[[Path], Any]
BAD: dict[str, tuple[Break, str, dict[str, Any]]] = {
    # kind -> what breaks a good scene, a piece of the sentence, settings of the check
    "none": (lambda s: shutil.rmtree(s / "object_mask"), "no such folder of masks", {}),
    "shared": (twice_named, "'one/000.jpg' and 'two/000.jpg' would both use", {}),
    "unreadable": (lambda s: first(s).write_bytes(b"\x89PNG\r\n\x1a\n..."), "000.png", {}),
    "lossy": (lossy, "000.jpg", {}),
    "picture": (photograph_like, "000.png", {}),
    "data set": (data_set, "000.json: holds the masks of 2 images", {}),
    "ids": (negative, "id -5 is not within", {}),
    "mixed": (lambda s: colored(s, slice(1)), "000.png holds colours and 001.png numbers", {}),
    "orientation": (unclear_turn, "--mask_orientation", {}),
    "size": (
        lambda s: change(s, lambda ids: np.pad(ids, ((0, 0), (0, 20)))),
        "000.png: the mask has 60x30 pixels but image '000.jpg' has 40x30",
        {},
    ),
    "missing": (lambda s: first(s).unlink(), "1 of 8 views have no mask", {}),
    "unmatched": (
        lambda s: shutil.copy(first(s), s / "object_mask/other.png"),
        "other.png",
        {},
    ),
    "turned": (turned_plainly, "8 of 8 masks are turned by the EXIF orientation (6)", {}),
    "resampled": (
        lambda s: change(s, lambda ids: np.ascontiguousarray(ids[:, :-1])),
        "000.png: 39x30 for 40x30",
        {},
    ),
    "empty": (lambda s: change(s, np.zeros_like, slice(None)), "all masks are empty", {}),
    "untrained": (
        lambda s: change(s, put((50, (0, 0, 9, 3)))),
        "id 50 is in no training view",
        {"eval": True},
    ),
    "single": (
        lambda s: change(s, put((50, (0, 0, 9, 3)))),
        "id 50 is in one view only (000.jpg)",
        {},
    ),
    "specks": (specks, "8 of 10 ids cover fewer than 8 pixels a view", {}),
    "palettes": (palettes, "index 3 is", {}),
    "colors": (colored, "2 colours are numbered", {}),
    "fresh": (lambda s: write_about(s / "object_mask", "view", {}), "object_mask.json says", {}),
    "overlapping": (lists, "8 of the masks are lists that may overlap", {}),
    "unused label": (lambda s: None, "--ignore_label 99: no mask holds", {"ignore_label": 99}),
    "scaled": (
        lambda s: change(s, lambda ids: np.kron(ids, np.ones((2, 2), np.int32))),
        "000.png: 80x60 for 40x30",
        {},
    ),
    "empty view": (
        lambda s: change(s, np.zeros_like),
        "1 of the masks hold no object: 000.jpg",
        {},
    ),
}


def test_each_kind_has_a_bad_example() -> None:
    assert BAD.keys() == KINDS.keys()


def test_a_good_scene_has_no_findings(scene: Path) -> None:
    report = checked(scene)
    assert report.findings == () and not report.stops_training
    assert list(report.lines(False)) == [
        f"{scene / 'object_mask'}: masks for 8 of 8 images, 2 ids, the same in all of them",
        "training can go on",
    ]


@pytest.mark.parametrize("kind", BAD)
def test_it_is_found_and_told_with_what_to_do(scene: Path, kind: str) -> None:
    spoil, said, settings = BAD[kind]
    spoil(scene)
    report = checked(scene, **settings)
    found = [finding for finding in report.findings if finding.kind == kind]
    assert len(found) == 1 and said in found[0].sentence and "\n" not in found[0].sentence
    severity, _, remedy = KINDS[kind]
    assert report.stops_training == (severity == "error")
    text = "\n".join(report.lines(False))
    assert f"{severity}: {found[0].sentence}" in text
    assert (f"    what to do: {remedy}" in text) == (remedy != "nothing")
    assert text.endswith("training cannot go on" if severity == "error" else "training can go on")


@pytest.mark.parametrize("kind", BAD)
def test_training_stops_where_the_report_says_so(scene: Path, kind: str) -> None:
    """One check: what the tool says is what the loading of the scene does."""
    spoil, _, settings = BAD[kind]
    spoil(scene)
    stops = checked(scene, **settings).stops_training
    try:
        load_scene(ModelParams(str(scene), random_points=50, **settings), seed=0)
    except MaskError:
        assert stops
    else:
        assert not stops


def test_all_is_reported_at_once_errors_first(scene: Path) -> None:
    for kind in ("unmatched", "ids"):
        BAD[kind][0](scene)
    (scene / "object_mask/003.png").unlink()
    (scene / "object_mask/004.png").write_bytes(b"")
    lines = list(checked(scene).lines(False))
    kinds = [line.split(":")[0] for line in lines if re.match("error|warning|info", line)]
    assert kinds == ["error", "error", "warning", "warning"]


def test_files_are_named_where_asked(scene: Path) -> None:
    for k in range(7):
        shutil.copy(first(scene), scene / f"object_mask/other_{k}.png")
    short, long = ("\n".join(checked(scene).lines(verbose)) for verbose in (False, True))
    assert "other_6" not in short and "and 2 more" in short
    assert f"    {scene / 'object_mask/other_6.png'}" in long


def test_a_damaged_record_is_a_finding(scene: Path) -> None:
    record = {"format": "iqgs-masks-1", "numbering": "ids"}
    for change_of, said in (({"numbering": "?"}, "numbering is"), ({"no_target": 0}, "no_target")):
        (scene / "object_mask.json").write_text(json.dumps({**record, **change_of}))
        (finding,) = checked(scene).findings
        assert finding.kind == "unreadable" and said in finding.sentence
        assert finding.files == (scene / "object_mask.json",)


# --- conversion


def test_colours_become_numbers_that_training_reads_alike(scene: Path) -> None:
    colored(scene)
    (scene / "labels.json").write_text('{"id_to_name": {"#fa0a14": "cup"}}')
    before = load_scene(ModelParams(str(scene)), seed=0)
    report = checked(scene, CheckParams(convert="ids"))
    assert report.written == scene / "ids" and len(list((scene / "ids").glob("*.png"))) == 8
    after = load_scene(ModelParams(str(scene), object_path="ids"), seed=0)
    assert before.id_table is not None and after.id_table is not None
    assert after.id_table.originals == before.id_table.originals == (1, 2)
    assert after.id_table.names == before.id_table.names == {2: "cup"}
    for one, other in zip(before.train, after.train, strict=True):
        assert one.masks is not None and other.masks is not None
        np.testing.assert_array_equal(one.masks.label_map, other.masks.label_map)


def test_lists_become_maps_and_stay_numbered_anew(scene: Path) -> None:
    lists(scene)
    assert checked(scene, CheckParams(convert="ids")).is_fresh
    assert checked(scene, object_path="ids").is_fresh
    ids = read_mask_file(scene / "ids/000.png").flat().map()
    np.testing.assert_array_equal(ids == 1, box(4, 4, 16, 14))


def test_large_ids_and_pixels_without_a_target_are_kept(scene: Path) -> None:
    ids = np.zeros((30, 40), np.int32)
    ids[box(2, 2, 9, 9)], ids[box(20, 2, 30, 9)] = 70_000, -1
    first(scene).unlink()
    write_id_map(first(scene).with_suffix(".tiff"), ids)
    checked(scene, CheckParams(convert="ids"))
    np.testing.assert_array_equal(read_mask_file(scene / "ids/000.tiff").flat().map(), ids)
    assert (scene / "ids/001.png").is_file()


def test_nothing_is_converted_where_there_are_errors(scene: Path) -> None:
    first(scene).write_bytes(b"")
    report = checked(scene, CheckParams(convert="ids"))
    assert report.stops_training and report.written is None and not (scene / "ids").exists()


def test_what_is_turned_stays_turned(scene: Path) -> None:
    turned_plainly(scene)
    checked(scene, CheckParams(convert="ids"))
    views = [
        load_scene(ModelParams(str(scene), object_path=folder), seed=0).train
        for folder in ("object_mask", "ids")
    ]
    for one, other in zip(*views, strict=True):
        assert one.masks is not None and other.masks is not None
        np.testing.assert_array_equal(one.masks.label_map, other.masks.label_map)


# --- the command


@pytest.mark.parametrize(("kind", "code"), [("missing", 0), ("size", 2), ("none", 2)])
def test_exit_codes(
    scene: Path,
    kind: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    BAD[kind][0](scene)
    monkeypatch.setattr(sys, "argv", ["check_masks.py", "-s", str(scene)])
    assert run_command(door.main) == code
    captured = capsys.readouterr()
    assert BAD[kind][1] in captured.out and "Traceback" not in captured.err


def test_wrong_command_lines() -> None:
    with pytest.raises(UserError, match="source_path"):
        parse_check_arguments([])
    with pytest.raises(UserError, match="--convert must be a folder inside the scene"):
        parse_check_arguments(["-s", "x", "--convert", "/tmp"])
    check, model = parse_check_arguments(["-s", "x", "-o", "masks", "--zero_label", "ignore"])
    assert check == CheckParams() and model.object_path == "masks" and model.zero_label == "ignore"
