# SPDX-License-Identifier: Apache-2.0
"""What is particular to formats of annotation tools, and what is said of damaged exports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from arguments.masks import CheckParams
from iqgs.preparation.imports import IMPORTERS, find_export
from scene.masks import read_mask_file
from utils.errors import DataError, FormatError, UserError

from . import exports
from .exports import Thing
from .import_cases import (
    BY_LABEL,
    CUP,
    FRESH,
    NAMES,
    PLATE,
    WITH_TRACKS,
    Write,
    assert_maps,
    expected,
    imported,
    maps,
    things,
)
from .shapes import box

# --- details of the formats


def test_crowds_are_no_target_and_their_marks_mean_nothing_to_cvat(
    scene: Path, folder: Path
) -> None:
    path = exports.coco(folder, things(), "plain")
    record = json.loads(path.read_text())
    record["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(record))
    imported(scene, path)
    ids = read_mask_file(scene / "object_mask/a.tiff").flat().map()
    assert (ids[CUP[0]] == -1).all() and (ids[PLATE[0]] == 2).all()
    for item in record["annotations"]:
        item["iscrowd"] = 1
    path.write_text(json.dumps(record))
    report = imported(scene, path, overwrite=True)
    assert_maps(scene, cup=5, plate=2)
    assert any("marked iscrowd, as CVAT" in notice for notice in report.notices)


def test_parts_of_one_group_are_one_object(scene: Path, folder: Path) -> None:
    path = exports.cvat_images(folder, things(False, True), False)
    text = path.read_text().replace("<polygon label", '<polygon group_id="3" label')
    path.write_text(text)
    assert imported(scene, path).ids == 1


def test_holes_of_polygons_stay_holes(scene: Path, folder: Path) -> None:
    exports.supervisely(folder, things(), False)
    path = folder / "data set 1/ann/a.jpg.json"
    record = json.loads(path.read_text())
    record["objects"][0]["points"]["interior"] = [[[7, 7], [11, 7], [11, 10], [7, 10]]]
    path.write_text(json.dumps(record))
    imported(scene, folder)
    np.testing.assert_array_equal(maps(scene)[0] == 5, CUP[0] & ~box(7, 7, 11, 10))


def test_small_masks_stay_above_large_ones(scene: Path, folder: Path) -> None:
    button = box(22, 18, 25, 21)
    found = things()
    found["a.jpg"] = [Thing(button, "button", 9), *found["a.jpg"]]
    imported(scene, exports.coco(folder, found, "plain"))
    np.testing.assert_array_equal(maps(scene)[0] == 9, button)


def test_photographs_of_other_sizes_and_names(scene: Path, folder: Path) -> None:
    """Exported from photographs twice as large, under a folder of the tool's own."""
    double = {
        f"task/{name.upper()}": [
            Thing(np.kron(t.mask, np.ones((2, 2))).astype(bool), t.label, t.track) for t in some
        ]
        for name, some in things().items()
    }
    report = imported(scene, exports.coco(folder, double, "plain"))
    assert report.masks == 3 and not report.stops_training
    np.testing.assert_array_equal(maps(scene)[0][::2, ::2], expected(5, 2)[0])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [cup, 'a plate']", {0: "cup", 1: "a plate"}),
        ("names:\n- cup\n- plate\nnc: 2", {0: "cup", 1: "plate"}),
        ("names:\n  0: cup\n  3: plate # or dish\n", {0: "cup", 3: "plate # or dish"}),
        ("names: {0: cup, 1: plate}", {0: "cup", 1: "plate"}),
        ("nc: 3", {}),
    ],
)
def test_names_of_yolos_classes(text: str, names: dict[int, str]) -> None:
    from iqgs.preparation.imports.yolo import names_of_yaml

    assert names_of_yaml(text) == names


# --- what is wrong


def test_an_export_of_another_scene(scene: Path, folder: Path) -> None:
    others = {f"other_{k}.jpg": some for k, some in enumerate(things().values())}
    with pytest.raises(
        DataError, match=r"3 images, such as other_0\.jpg, but none.*such as a\.jpg"
    ):
        imported(scene, exports.coco(folder, others, "plain"))
    video = dict(list(things().items())[:2])
    with pytest.raises(DataError, match="2 frames without names, but there are 3 photographs"):
        imported(scene, exports.cvat_video(folder, video))
    assert not (scene / "object_mask").exists()


def test_images_that_are_left_over_are_named(scene: Path, folder: Path) -> None:
    more = {**things(), "other.jpg": [Thing(box(1, 1, 9, 9), "cup", 5)]}
    report = imported(scene, exports.coco(folder, more, "plain"))
    assert any(
        "1 images of the export are no photographs here: other.jpg" in n for n in report.notices
    )


def test_nothing_that_is_known(scene: Path, folder: Path) -> None:
    (folder / "notes.txt").write_text("soon")
    with pytest.raises(
        DataError, match=r"no export in a known format \(CVAT XML 1\.1, .*as a\.jpg"
    ):
        imported(scene, folder)
    with pytest.raises(DataError, match="no such file or folder"):
        imported(scene, folder / "gone")
    with pytest.raises(UserError, match="--convert must be"):
        CheckParams(import_path="x")


def test_masks_that_are_there_are_not_replaced_unasked(scene: Path, folder: Path) -> None:
    path = exports.coco(folder, things(), "plain")
    imported(scene, path)
    with pytest.raises(UserError, match="is there already.*--overwrite"):
        imported(scene, path)
    with pytest.raises(UserError, match="holds photographs"):
        imported(scene, path, convert="images", overwrite=True)


DAMAGE: dict[str, tuple[Write, str, str, str]] = {
    "xml cut off": (WITH_TRACKS["cvat masks"], "</annotations>", "", "not valid XML"),
    "encoding": (
        WITH_TRACKS["cvat masks"],
        'encoding="utf-8"',
        'encoding="utf-1"',
        "unknown encoding: utf-1",
    ),
    "entities": (
        WITH_TRACKS["cvat masks"],
        "<annotations>",
        '<!DOCTYPE x [<!ENTITY a "b">]><annotations>',
        "declares entities",
    ),
    "runs too long": (WITH_TRACKS["cvat masks"], 'rle="0, ', 'rle="9, ', "runs that do not fit"),
    "no number": (WITH_TRACKS["cvat polygons"], "4.00,4.00", "4.00,x", "not annotations of CVAT"),
    "two corners": (WITH_TRACKS["cvat polygons"], ";16.00,14.00;4.00,14.00", "", "three corners"),
    "unknown image": (
        WITH_TRACKS["coco plain codes"],
        '"image_id": 10',
        '"image_id": 99',
        "not COCO's instances",
    ),
    "code of another size": (WITH_TRACKS["coco plain codes"], "[30, 40]", "[30, 41]", "size"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_one_sentence(scene: Path, folder: Path, kind: str) -> None:
    write, before, after, said = DAMAGE[kind]
    path = write(folder)
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(FormatError) as caught:
        imported(scene, path)
    message = str(caught.value)
    assert said in message and path.name in message and "\n" not in message
    assert not (scene / "object_mask").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [("%%%", "damaged bitmap"), ("AAAA", "damaged bitmap"), ("eJwDAAAAAAE=", "damaged bitmap")],
)
def test_damaged_bitmaps(scene: Path, folder: Path, data: str, said: str) -> None:
    exports.supervisely(folder, things(), True)
    path = folder / "data set 1/ann/a.jpg.json"
    record = json.loads(path.read_text())
    record["objects"][0]["bitmap"]["data"] = data
    path.write_text(json.dumps(record))
    with pytest.raises(FormatError, match=rf"image a\.jpg: a {said}"):
        imported(scene, folder)


def test_damaged_labels(scene: Path, folder: Path) -> None:
    exports.yolo(folder, things(False))
    path = folder / "labels/a.txt"
    path.write_text(path.read_text() + "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7\n")
    with pytest.raises(FormatError, match=r"a\.txt: line 3 is no polygon"):
        imported(scene, folder)
    exports.cvat_pictures(folder, things(False))
    (folder / "labelmap.txt").write_text("cup 250 0 0\n")
    with pytest.raises(FormatError, match=r"labelmap\.txt: line 1 is no label:r,g,b"):
        imported(scene, folder)
    (folder / "labelmap.txt").write_bytes(b"caf\xe9:250,0,0::\n")
    with pytest.raises(FormatError, match=r"labelmap\.txt: not a text in UTF-8"):
        imported(scene, folder)


def test_each_kind_is_found_by_its_own_importer(tmp_path: Path) -> None:
    """None takes the export of another for its own."""
    writers: dict[str, Write] = {
        "cvat_xml": WITH_TRACKS["cvat masks"],
        "cvat_masks": BY_LABEL["cvat pictures"],
        "supervisely": WITH_TRACKS["supervisely bitmaps"],
        "coco": WITH_TRACKS["coco plain codes"],
        "yolo": BY_LABEL["yolo"],
        "sam_folders": FRESH["amg.py"],
        "lerf_mask": lambda folder: exports.lerf_mask(folder, things(False)),
    }
    assert writers.keys() == IMPORTERS.keys()
    for kind, write in writers.items():
        folder = tmp_path / kind
        folder.mkdir()
        write(folder)
        found = find_export(folder, NAMES)
        assert isinstance(found, tuple) and found[0] is IMPORTERS[kind], kind
