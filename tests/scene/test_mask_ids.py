# SPDX-License-Identifier: Apache-2.0
"""What the values in mask files become: ids, colours that stand for ids, no target, and notices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene.masks import MaskContent
from scene.masks.formats import FORMATS
from utils.errors import MaskError

from .mask_scenes import COLORS, collect, each_mask, kinds, load, recolor

MakeScene = Callable[..., Path]

# --- colours


def test_colours_are_ids_and_can_be_undone(make_scene: MakeScene, tmp_path: Path) -> None:
    source = make_scene()
    expected = [view.masks.label_map for view in load(source).train if view.masks is not None]
    for path in each_mask(source):
        recolor(path, "colored")
    scene = load(source, object_path="colored")
    table = scene.id_table
    assert table is not None and table.originals == (1, 2)
    # In the order of red, green, blue.
    assert table.colors == {1: 0x404040, 2: 0xFA0A14}
    for view, before in zip(scene.train, expected, strict=True):
        assert view.masks is not None
        np.testing.assert_array_equal(view.masks.label_map, np.array([0, 2, 1])[before])
    (notice,) = scene.notices
    assert "2 colours are numbered 1 to 2" in notice
    # A run's ids.json gives the colours back.
    table.save(tmp_path / "ids.json")
    stored = json.loads((tmp_path / "ids.json").read_text())["colors"]
    assert {tuple(bytes.fromhex(c[1:])) for c in stored.values()} == {COLORS[3], COLORS[7]}
    # Names may be given by colour.
    labels = {"#fa0a14": "cup", "64,64,64": "table", "9,9,9": "gone"}
    (source / "labels.json").write_text(json.dumps({"id_to_name": labels}))
    table = load(source, object_path="colored").id_table
    assert table is not None and table.names == {2: "cup", 1: "table"}


def test_gray_colours_are_ids_where_no_file_has_another_colour(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source):
        Image.open(path).convert("RGB").save(path)
    scene = load(source)
    assert scene.notices == () and scene.id_table is not None
    assert scene.id_table.originals == (3, 7) and scene.id_table.colors == {}


def test_black_files_fit_both_and_numbers_beside_colours_do_not(make_scene: MakeScene) -> None:
    source = make_scene()
    paths = each_mask(source)
    for path in paths[1:]:
        recolor(path)
    Image.new("L", (40, 30)).save(paths[0])
    assert load(source).id_table is not None
    Image.new("L", (40, 30), 5).save(paths[0])
    with pytest.raises(MaskError, match=r"001\.png holds colours and 000\.png numbers"):
        load(source)


def test_an_ignored_colour(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source):
        recolor(path)
    scene = load(source, ignore_label=0xFA0A14)
    assert scene.id_table is not None and scene.id_table.colors == {1: 0x404040}
    masks = scene.train[0].masks
    assert masks is not None and set(np.unique(masks.label_map)) == {-1, 0, 1}


def test_one_index_of_two_colours_is_told(make_scene: MakeScene) -> None:
    source = make_scene()
    for index, path in enumerate(each_mask(source)):
        picture = Image.open(path)
        picture.putpalette([0, 0, 0] + [index if index > 4 else 1, 50, 60] * 255)
        picture.save(path)
    (notice,) = load(source).notices
    assert "index 3 is #01323c in 000.png and #05323c in 005.png" in notice


# --- ids


def test_ids_of_held_out_views_and_of_one_view_are_told(make_scene: MakeScene) -> None:
    source = make_scene()
    paths = each_mask(source)
    for index, number in ((0, 4), (8, 5), (0, 6), (3, 8)):  # views 0 and 8 are held out
        ids = np.array(Image.open(paths[index]))
        ids[20 + number :, 30:] = number
        Image.fromarray(ids).save(paths[index])
    scene = load(source, eval=True)
    assert [view.name for view in scene.test] == ["000.png", "008.png"]
    assert scene.notices == (
        "3 ids are in no training view: 4, 5, 6",
        "id 8 is in one view only (003.png)",
    )
    assert "id 5 is in one view only" not in " ".join(load(source).notices)
    assert "4 ids are in one view only: 4 (000.png), 5 (008.png)" in load(source).notices[0]


def test_an_ignored_value_is_no_target_anywhere(make_scene: MakeScene) -> None:
    source = make_scene()
    scene = load(source, ignore_label=7)
    assert scene.id_table is not None and scene.id_table.originals == (3,)
    for view, path in zip(scene.train, each_mask(source), strict=True):
        ids = np.asarray(Image.open(path))
        assert view.masks is not None and view.masks.ids == (1,)
        expected = np.select([ids == 3, ids == 7], [1, -1], 0)
        np.testing.assert_array_equal(view.masks.label_map, expected)
    assert load(source, ignore_label=200).notices == (
        "--ignore_label 200: no mask holds that value",
    )


def test_an_ignored_zero_is_no_target_either(make_scene: MakeScene) -> None:
    source = make_scene()
    for view, path in zip(load(source, zero_label="ignore").train, each_mask(source), strict=True):
        ids = np.asarray(Image.open(path))
        assert view.masks is not None and view.masks.ids == (1, 2)
        np.testing.assert_array_equal(
            view.masks.label_map, np.select([ids == 3, ids == 7], [1, 2], -1)
        )


def test_compression_shows_in_ids_of_a_few_pixels(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source):  # too late: the losses are in the pixels now
        picture = Image.fromarray(np.asarray(Image.open(path)) * 20)
        picture.save(path.with_suffix(".jpg"), quality=60)
        Image.open(path.with_suffix(".jpg")).save(path)
        path.with_suffix(".jpg").unlink()
    found = collect(source)
    assert "specks" in kinds(found)


def test_views_without_objects_are_information(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source)[2:4]:
        Image.new("L", (40, 30)).save(path)
    found = collect(source)
    assert kinds(found) == ["empty view"] and "002.png, 003.png" in found.findings[0].sentence
    assert load(source).notices == ()


# --- lists of masks


def test_lists_of_masks_are_flattened_and_said_to_be_fresh(make_scene: MakeScene) -> None:
    source = make_scene()
    expected = [view.masks.label_map for view in load(source).train if view.masks is not None]
    for path in each_mask(source):
        content = MaskContent.of_map(np.asarray(Image.open(path)))
        unnumbered = MaskContent.of_layers(content.as_layers(), "view")
        FORMATS["sam_list"].write(path.with_suffix(".json"), unnumbered)
        path.unlink()
    scene = load(source)
    (notice,) = scene.notices
    assert notice.startswith("9 of the masks are lists") and "--matching hungarian" in notice
    for view, before in zip(scene.train, expected, strict=True):
        assert view.masks is not None
        np.testing.assert_array_equal(view.masks.label_map, before)


def test_folders_of_binary_masks_keep_their_ids(make_scene: MakeScene) -> None:
    source = make_scene()
    expected = [view.masks.label_map for view in load(source).train if view.masks is not None]
    for path in each_mask(source):
        content = MaskContent.of_map(np.asarray(Image.open(path)))
        FORMATS["binary_folder"].write(path.with_suffix(""), content)
        path.unlink()
    scene = load(source)
    (notice,) = scene.notices
    assert "smallest mask owns a pixel" in notice and "hungarian" not in notice
    assert scene.id_table is not None and scene.id_table.originals == (3, 7)
    for view, before in zip(scene.train, expected, strict=True):
        assert view.masks is not None
        np.testing.assert_array_equal(view.masks.label_map, before)
