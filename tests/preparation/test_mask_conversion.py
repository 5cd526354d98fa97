# SPDX-License-Identifier: Apache-2.0
"""Masks of any format written as training reads them, with nothing lost on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arguments import ModelParams
from arguments.masks import CheckParams
from scene.dataset import load_scene
from scene.masks import read_mask_file
from utils.images import write_id_map

from .mask_faults import NAMES, checked, colored, first, good_masks, lists, turned_plainly
from .shapes import box, write_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return good_masks(write_scene(tmp_path / "scene", NAMES))


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
