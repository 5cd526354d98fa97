# SPDX-License-Identifier: Apache-2.0
"""One image's masks at its camera's size, and how ids are renumbered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scene.cameras import Camera
from scene.masks import IdTable, read_label_map, read_label_names, read_layers, read_masks
from scene.masks.ids import numbered_colors
from utils.errors import DataError, FormatError
from utils.images import write_id_map


def camera(width: int, height: int) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    return Camera(pose, 50.0, 50.0, width / 2, height / 2, width, height, "a.png", 0)


def test_ids_become_compact_and_come_back() -> None:
    table = IdTable((3, 7, 300), {7: "cup"})
    ids = np.array([[0, 7, -1], [300, 3, 0]], np.int32)
    compact = table.to_compact(ids)
    np.testing.assert_array_equal(compact, [[0, 2, -1], [3, 1, 0]])
    np.testing.assert_array_equal(table.to_original(compact), ids)
    assert (table.name(2), table.name(3), len(table)) == ("cup", "300", 3)


@pytest.mark.parametrize("stranger", [1, 5, 301, 2**31 - 1, -2])
def test_unknown_ids_are_named(stranger: int) -> None:
    with pytest.raises(DataError, match=str(stranger)):
        IdTable((3, 7, 300)).to_compact(np.array([[3, stranger]]))
    for wrong in (2, -2):
        with pytest.raises(ValueError, match="-1..1"):
            IdTable((3,)).to_original(np.array([wrong]))


def test_an_ignored_zero_becomes_no_target() -> None:
    compact = IdTable((5,), zero_label="ignore").to_compact(np.array([[0, 5, -1]]))
    np.testing.assert_array_equal(compact, [[-1, 1, -1]])


def test_values_become_numbers_by_coding_and_ignore_label() -> None:
    plain = IdTable((), ignore_label=255)
    assert plain.numbers_of(np.array([-1, 0, 9, 255]), "ids").tolist() == [-1, 0, 9, -1]
    assert plain.numbers_of(np.array([0, 0x090909, 0xFFFFFF]), "colors").tolist() == [0, 9, -1]
    # 255 is white where masks are colours, and not blue; larger numbers are colours themselves.
    codes = [0, 0x0000FF, 0x123456, 0xFFFFFF]
    for ignored, numbers in ((255, [0, 1, 2, -1]), (0x123456, [0, 1, -1, 2]), (-1, [0, 1, 2, 3])):
        colors = numbered_colors(codes, {}, ignored)
        table = IdTable((), ignore_label=ignored, colors=colors)
        assert table.numbers_of(np.array(codes), "colors").tolist() == numbers
    with pytest.raises(DataError, match="#00ff00"):
        table.numbers_of(np.array([0x00FF00]), "colors")
    for wrong in (-7, 2**31, 2**32 - 1):
        with pytest.raises(DataError, match=f"id {wrong} .*--ignore_label {wrong}"):
            plain.numbers_of(np.array([wrong, 3]), "ids")


def test_colours_keep_their_numbers_when_others_come() -> None:
    first = numbered_colors([0, 900, 500, 500, 700], {}, -1)
    assert first == {1: 500, 2: 700, 3: 900}
    assert numbered_colors([600, 500, 100], first, -1) == {**first, 4: 100, 5: 600}
    many = numbered_colors(range(1, 70_000), {}, -1)
    table = IdTable(tuple(many), colors=many)
    codes = np.array([[0, 69_999, 65_536]])
    np.testing.assert_array_equal(table.to_original(table.to_compact(codes)), codes)


def test_an_empty_table_takes_background_only() -> None:
    table = IdTable(())
    np.testing.assert_array_equal(table.to_compact(np.zeros((2, 2), np.int32)), np.zeros((2, 2)))
    with pytest.raises(DataError):
        table.to_compact(np.ones((2, 2), np.int32))


def test_table_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    for table in (
        IdTable((3, 70000), {3: "Tasse à café"}, "ignore"),
        IdTable((1, 2), {}, "background", 255, {1: 0x8D0CC8, 2: 7}),
    ):
        table.save(path)
        assert IdTable.load(path) == table
    assert json.loads(path.read_text())["colors"] == {"1": "#8d0cc8", "2": "#000007"}
    whole = json.loads(path.read_text())
    for change in (
        {"format": "x"},
        {"ids": [3, 3]},
        {"ids": 4},
        {"names": []},
        {"names": {"a": "b"}},
        {"zero_label": "maybe"},
        {"ids": [0]},
        {"colors": {"1": "red"}},
        {"colors": {"1": "#000007", "2": "0,0,7"}},
        {"ignore_label": "white"},
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


def test_masks_are_resized_to_the_render_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ids = np.zeros((60, 80), np.int32)
    ids[20:40, 40:] = 9
    write_id_map(path, ids)
    masks = read_masks(path, camera(40, 30), IdTable((4, 9)))
    assert masks.label_map.shape == (30, 40) and masks.ids == (2,)
    assert set(np.unique(masks.label_map[10:20, 20:])) == {2}
    assert int((masks.label_map == 2).sum()) == 200
    assert read_masks(path, camera(80, 60), IdTable((9,))).ids == (1,)
    # Nearest rows and columns of a 3x3 view miss the single pixel: it is not among the ids then.
    ids[0, 0] = 4
    write_id_map(path, ids)
    assert read_masks(path, camera(4, 3), IdTable((4, 9))).ids == (2,)
    assert read_label_map(path, camera(40, 30), IdTable(())).max() == 9
    layers = read_layers(path, camera(40, 30))
    assert layers.source.tolist() == [4, 9] and layers.areas().tolist() == [0, 200]


@pytest.mark.fault(row=20)
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
        assert read_masks(path, camera(534, 400), IdTable((1,))).label_map.shape == (400, 534)
        return
    with pytest.raises(DataError, match=f"{width}x{height}.*534x400"):
        read_masks(path, camera(534, 400), IdTable((1,)))


def test_label_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    assert read_label_names(path) == {}
    path.write_text(json.dumps({"id_to_name": {"3": "cup"}, "0": "background"}))
    assert read_label_names(path) == {3: "cup"}
    path.write_text(json.dumps({"id_to_name": {"#0000ff": "sea", "0,255,0": "wood", "4": "x"}}))
    assert read_label_names(path, {7: 255, 2: 65280}) == {7: "sea", 2: "wood", 4: "x"}
    assert read_label_names(path) == {4: "x"}
    for text in (
        '{"id_to_name": {"x": "cup"}}',
        '{"id_to_name": {"1,2": "cup"}}',
        '{"id_to_name": [1]}',
        "nonsense",
    ):
        path.write_text(text)
        with pytest.raises(FormatError, match="labels.json"):
            read_label_names(path)
