# SPDX-License-Identifier: Apache-2.0
"""Masks: which file belongs to which image, how it is sized, and how ids are renumbered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scene.cameras import Camera
from scene.masks import (
    IdTable,
    InstanceMasks,
    build_id_table,
    find_mask_files,
    present_ids,
    read_label_names,
    read_masks,
)
from utils.errors import DataError, FormatError
from utils.images import write_id_map


def camera(width: int, height: int) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    return Camera(pose, 50.0, 50.0, width / 2, height / 2, width, height, "a.png", 0)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_ids_become_compact_and_come_back() -> None:
    table = IdTable((3, 7, 300), {7: "cup"})
    ids = np.array([[0, 7], [300, 3]], np.int32)
    compact = table.to_compact(ids)
    np.testing.assert_array_equal(compact, [[0, 2], [3, 1]])
    np.testing.assert_array_equal(table.to_original(compact), ids)
    assert (table.name(2), table.name(3), len(table)) == ("cup", "300", 3)


@pytest.mark.parametrize("stranger", [1, 5, 301, 2**31 - 1, -1])
def test_unknown_ids_are_named(stranger: int) -> None:
    with pytest.raises(DataError, match=str(stranger)):
        IdTable((3, 7, 300)).to_compact(np.array([[3, stranger]]))
    with pytest.raises(ValueError, match="0..1"):
        IdTable((3,)).to_original(np.array([2]))


def test_an_empty_table_takes_background_only() -> None:
    table = IdTable(())
    np.testing.assert_array_equal(table.to_compact(np.zeros((2, 2), np.int32)), np.zeros((2, 2)))
    with pytest.raises(DataError):
        table.to_compact(np.ones((2, 2), np.int32))


def test_table_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    table = IdTable((3, 70000), {3: "Tasse à café"}, "ignore")
    table.save(path)
    assert IdTable.load(path) == table
    whole = json.loads(path.read_text())
    for change in (
        {"format": "x"},
        {"ids": [3, 3]},
        {"ids": 4},
        {"names": []},
        {"names": {"a": "b"}},
        {"zero_label": "maybe"},
        {"ids": [0]},
    ):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(FormatError, match="ids.json"):
            IdTable.load(path)
    for text in ("", "[", "[1]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(FormatError, match="ids.json"):
            IdTable.load(path)
    with pytest.raises(DataError, match="none.json"):
        IdTable.load(tmp_path / "none.json")


def test_present_ids_small_and_huge() -> None:
    ids = np.array([[0, 5], [65535, 5]], np.int32)
    assert present_ids(ids) == (5, 65535)
    assert present_ids(np.array([[2**31 - 1, 0]], np.int32)) == (2**31 - 1,)
    assert InstanceMasks.from_label_map(np.zeros((2, 2), np.int32)).ids == ()


def test_mask_files_by_sub_path_first_dot_and_basename(tmp_path: Path) -> None:
    touch(
        tmp_path / "a.png",
        tmp_path / "left/b.png",
        tmp_path / "frame.0001.png",
        tmp_path / "shot.png",
        tmp_path / "flat.png",
    )
    names = ["a.jpg", "left/b.jpg", "right/b.jpg", "frame.0001.jpg", "shot.v2.jpg", "sub/flat.JPG"]
    found = find_mask_files(tmp_path, names)
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "a.jpg": "a.png",
        "left/b.jpg": "left/b.png",
        "frame.0001.jpg": "frame.0001.png",
        "shot.v2.jpg": "shot.png",
        "sub/flat.JPG": "flat.png",
    }


@pytest.mark.parametrize(
    "names",
    [
        ["left/b.jpg", "right/b.jpg"],
        ["b.jpg", "b.png"],
        ["b.1.jpg", "b.2.jpg"],
    ],
)
def test_two_images_with_one_mask_are_both_named(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path / "b.png")
    with pytest.raises(DataError) as caught:
        find_mask_files(tmp_path, names)
    assert all(repr(name) in str(caught.value) for name in names)


def test_masks_are_resized_to_the_render_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ids = np.zeros((60, 80), np.int32)
    ids[20:40, 40:] = 9
    write_id_map(path, ids)
    masks = read_masks(path, camera(40, 30), IdTable((4, 9)))
    assert masks.label_map.shape == (30, 40) and masks.ids == (2,)
    assert set(np.unique(masks.label_map[10:20, 20:])) == {2}
    assert int((masks.label_map == 2).sum()) == 200
    assert read_masks(path, camera(80, 60), None).ids == (9,)


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [
        (535, 400, True),
        (534, 401, True),
        (1068, 801, True),
        (267, 200, True),
        (540, 400, False),
        (400, 534, False),
    ],
)
def test_a_pixel_more_is_rounding_a_percent_is_another_image(
    tmp_path: Path, width: int, height: int, fits: bool
) -> None:
    path = tmp_path / "a.png"
    write_id_map(path, np.ones((height, width), np.int32))
    if fits:
        assert read_masks(path, camera(534, 400), None).label_map.shape == (400, 534)
        return
    with pytest.raises(DataError, match=f"{width}x{height}.*534x400"):
        read_masks(path, camera(534, 400), None)


def test_the_table_is_the_union_of_all_files(tmp_path: Path) -> None:
    paths = []
    for index, ids in enumerate(((0, 5), (0, 0), (700, 5), (2, 0))):
        paths.append(tmp_path / f"{index}.png")
        write_id_map(paths[-1], np.array([ids], np.int32))
    table = build_id_table(paths, {5: "five", 6: "six"}, "background")
    assert table == IdTable((2, 5, 700), {5: "five"}, "background")


def test_label_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    assert read_label_names(path) == {}
    path.write_text(json.dumps({"id_to_name": {"3": "cup"}, "0": "background"}))
    assert read_label_names(path) == {3: "cup"}
    for text in ('{"id_to_name": {"x": "cup"}}', '{"id_to_name": [1]}', "nonsense"):
        path.write_text(text)
        with pytest.raises(FormatError, match="labels.json"):
            read_label_names(path)


@pytest.mark.parametrize("mode", ["RGB", "1", "P"])
def test_mask_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    gray = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8) * (255 if mode == "1" else 1))
    if mode == "P":
        gray.putpalette([9, 9, 9, 200, 100, 0])
        gray.save(path)
    else:
        gray.convert(mode).save(path)
    np.testing.assert_array_equal(read_masks(path, camera(2, 2), None).label_map, [[0, 1], [1, 0]])
