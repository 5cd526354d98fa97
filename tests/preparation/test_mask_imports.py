# SPDX-License-Identifier: Apache-2.0
"""Exports of annotation tools, each written by hand here, read into masks that training reads."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arguments import ModelParams
from arguments.masks import CheckParams
from iqgs.preparation.imports import IMPORTERS
from iqgs.preparation.mask_check import check_masks
from utils.errors import DataError

from . import exports
from .import_cases import (
    BY_LABEL,
    FRESH,
    NAMES,
    WITH_TRACKS,
    assert_maps,
    expected,
    imported,
    maps,
    things,
)


@pytest.mark.parametrize("kind", WITH_TRACKS)
def test_tracks_are_ids(scene: Path, folder: Path, kind: str) -> None:
    report = imported(scene, WITH_TRACKS[kind](folder))
    assert_maps(scene, cup=5, plate=2)
    labels = json.loads((scene / "object_mask/labels.json").read_text())
    assert labels == {"id_to_name": {"2": "plate", "5": "cup"}}
    assert not report.is_fresh and not report.stops_training and report.masks == 3
    assert report.written == scene / "object_mask"
    if kind.startswith(("cvat pol", "cvat masks", "super")):
        assert any("no masks were left out" in notice for notice in report.notices)


@pytest.mark.parametrize("kind", BY_LABEL)
def test_labels_that_no_image_has_twice_are_objects(scene: Path, folder: Path, kind: str) -> None:
    report = imported(scene, BY_LABEL[kind](folder))
    assert_maps(scene, cup=1, plate=2)
    assert not report.is_fresh
    assert any("each of the 2 labels is taken for one object" in n for n in report.notices)


def test_lerf_masks_are_objects_by_their_prompts(scene: Path, folder: Path) -> None:
    exports.lerf_mask(folder, things(False))
    for path in (folder, folder / "test_mask"):
        imported(scene, path, overwrite=True)
        assert_maps(scene, cup=1, plate=2)
    labels = json.loads((scene / "object_mask/labels.json").read_text())
    assert labels == {"id_to_name": {"1": "cup", "2": "plate"}}


@pytest.mark.parametrize("kind", FRESH)
def test_without_tracks_images_number_their_objects_anew(
    scene: Path, folder: Path, kind: str
) -> None:
    report = imported(scene, FRESH[kind](folder))
    assert report.is_fresh and not report.stops_training
    assert [finding.kind for finding in report.findings if finding.severity == "warning"] == [
        "fresh"
    ]
    for found, wanted in zip(maps(scene), expected(1, 2), strict=True):
        # Which of the two is 1 is no matter.
        pairs = set(zip(found.ravel().tolist(), wanted.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(wanted)) and (0, 0) in pairs


def test_a_zip_is_read_as_its_folder(scene: Path, folder: Path, tmp_path: Path) -> None:
    path = exports.cvat_images(folder, things(), True)
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(path, "annotations.xml")
        archive.writestr("images/a.jpg", b"not needed")
    imported(scene, tmp_path / "task.zip")
    assert_maps(scene, cup=5, plate=2)


@pytest.mark.parametrize("name", ["../evil.xml", "/evil.xml"])
def test_a_zip_cannot_write_elsewhere(scene: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr(name, "<annotations>")
    with pytest.raises(DataError, match="leads out of it"):
        imported(scene, tmp_path / "task.zip")


def test_folders_of_one_file_an_image_are_read_as_they_are(scene: Path, folder: Path) -> None:
    """Gaussian Grouping's object_mask, and SA-1B's files."""
    for name, found in things().items():
        path = folder / "object_mask" / Path(name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = np.zeros((30, 40), np.uint8)
        for thing in found:
            ids[thing.mask] = thing.track
        Image.fromarray(ids).save(path)
    report = imported(scene, folder)
    assert_maps(scene, cup=5, plate=2)
    assert report.folder == folder and report.written == scene / "object_mask"

    sa1b = folder.with_name("sa1b")
    for name, found in things().items():
        source = exports.coco(folder, {name: found}, "plain")
        items = json.loads(source.read_text())["annotations"]
        path = sa1b / Path(name).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        for item in items:
            item.pop("track_id"), item.pop("image_id")
        image = {"image_id": 1, "width": 40, "height": 30, "file_name": name}
        path.write_text(json.dumps({"image": image, "annotations": items}))
    report = imported(scene, sa1b, overwrite=True)
    assert report.is_fresh and report.masks == 3
    np.testing.assert_array_equal(maps(scene)[0] > 0, expected(1, 1)[0] > 0)


def test_what_was_written_is_read_again_the_same(scene: Path, folder: Path) -> None:
    """A round trip: convert what is converted."""
    imported(scene, exports.coco(folder, things(), "plain"))
    again = check_masks(CheckParams(convert="again"), ModelParams(str(scene)))
    assert again.written == scene / "again"
    for name in NAMES:
        file = Path(name).with_suffix(".png")
        one, other = (scene / place / file for place in ("object_mask", "again"))
        assert one.read_bytes() == other.read_bytes()
    labels = [(scene / place / "labels.json").read_text() for place in ("object_mask", "again")]
    assert labels[0] == labels[1]


def test_the_documentation_names_every_export() -> None:
    text = (Path(__file__).parents[2] / "docs/masks.md").read_text(encoding="utf-8").casefold()
    for importer in IMPORTERS.values():
        words = importer.title.casefold().removesuffix(" 1.1").split()
        assert all(word in text for word in words), importer.title
