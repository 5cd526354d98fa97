# SPDX-License-Identifier: Apache-2.0
"""What a scene's loading says about its masks: every finding, its severity and its sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.dataset import Scene, SceneRequest, load_scene
from scene.masks import KINDS, MaskCollection, MaskContent, MaskRequest, collect_masks
from scene.masks.formats import FORMATS
from utils.errors import MaskError

MakeScene = Callable[..., Path]
COLORS = {3: (250, 10, 20), 7: (64, 64, 64), 9: (3, 220, 91)}


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(SceneRequest(source, random_points=200, **changes))


def collect(source: Path, **changes: Any) -> MaskCollection:
    """The masks of a scene without refusing anything."""
    cameras = [view.camera for view in load(source, no_masks=True).train]
    settings = {"zero_label": "background", "ignore_label": -1, "keep": False, "colors": {}}
    folder = source / changes.pop("object_path", "object_mask")
    return collect_masks(
        MaskRequest(folder, source / "labels.json", **{**settings, **changes}), cameras
    )


def kinds(found: MaskCollection) -> list[str]:
    return [finding.kind for finding in found.findings]


def each_mask(source: Path) -> list[Path]:
    return sorted((source / "object_mask").rglob("*.png"))


def recolor(path: Path, folder: str = "object_mask") -> None:
    """The id map as a picture of colours."""
    ids = np.asarray(Image.open(path))
    pixels = np.zeros((*ids.shape, 3), np.uint8)
    for number, color in COLORS.items():
        pixels[ids == number] = color
    target = path.parents[1] / folder / path.name
    target.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(target)


def test_a_clean_scene_has_no_findings(make_scene: MakeScene) -> None:
    found = collect(make_scene())
    assert found.findings == () and found.table.originals == (3, 7) and not found.is_fresh


def test_every_kind_of_finding_is_listed_with_its_severity() -> None:
    assert {severity for severity, _ in KINDS.values()} == {"error", "warning", "info"}


# --- names


def test_none_found_says_what_is_there_and_what_is_expected(make_scene: MakeScene) -> None:
    source = make_scene(["000.jpg", "001.jpg"])
    for path in each_mask(source):
        path.rename(path.with_name(f"mask_{path.name}"))
    with pytest.raises(MaskError) as caught:
        load(source)
    text = str(caught.value)
    assert "the folder holds 2 files, for example mask_000.png" in text
    assert "expected 000.png" in text and "--no_masks" in text and "--object_path" in text
    shutil.rmtree(source / "object_mask")
    with pytest.raises(MaskError, match="no such folder of masks.*images, sparse.*--object_path"):
        load(source)


@pytest.mark.parametrize("habit", ["colmap", "upper", "npy", "tif"])
def test_masks_under_other_habits_are_the_same_masks(make_scene: MakeScene, habit: str) -> None:
    source = make_scene([f"{i:03d}.jpg" for i in range(9)])
    expected = [view.masks.label_map for view in load(source).train if view.masks is not None]
    for path in each_mask(source):
        ids = np.asarray(Image.open(path)).astype(np.int32)
        if habit == "colmap":
            path.rename(path.with_name(f"{path.stem}.jpg.png"))
            continue
        path.unlink()
        if habit == "upper":
            Image.fromarray(ids.astype("u1")).save(path.with_suffix(".PNG"))
        elif habit == "npy":
            np.save(path.with_suffix(".npy"), ids)
        else:
            Image.fromarray(ids * 70_000).save(path.with_suffix(".tif"))
    scene = load(source)
    assert scene.notices == () and scene.id_table is not None
    assert scene.id_table.originals == ((210_000, 490_000) if habit == "tif" else (3, 7))
    for view, before in zip(scene.train, expected, strict=True):
        assert view.masks is not None
        np.testing.assert_array_equal(view.masks.label_map, before)


def test_files_that_fit_no_photograph_are_counted_and_five_named(make_scene: MakeScene) -> None:
    source = make_scene()
    for index in range(7):
        shutil.copy(each_mask(source)[0], source / f"object_mask/extra_{index}.png")
    (notice,) = load(source).notices
    assert notice.startswith("7 mask files in") and "fit no photograph" in notice
    assert "extra_4.png and 2 more" in notice and "extra_5" not in notice


# --- files


def test_lossy_masks_are_refused_with_reason_and_count(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    with pytest.raises(MaskError, match=r"000\.jpg.*invents ids.*PNG.*8 more mask files"):
        load(source)


def test_all_faults_are_found_at_once(make_scene: MakeScene) -> None:
    source = make_scene()
    paths = each_mask(source)
    paths[0].write_bytes(b"")
    Image.new("L", (40, 40)).save(paths[1])
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype("u1")
    Image.fromarray(noise).save(paths[2])
    Image.new("L", (40, 30)).save(paths[3], "JPEG")
    Image.fromarray(np.full((30, 40), -5, np.int32)).save(paths[4].with_suffix(".tif"))
    paths[4].unlink()
    paths[5].unlink()
    found = collect(source)
    assert kinds(found)[:6] == ["missing", "unreadable", "picture", "lossy", "size", "ids"]
    files = {path for item in found.findings[1:6] for path in item.files}
    assert {path.stem for path in files} == {f"{i:03d}" for i in range(5)}
    with pytest.raises(MaskError, match=r"000\.png.*empty.*\(4 more mask files have faults\)"):
        load(source)


def test_a_negative_id_names_the_option_that_may_be_meant(make_scene: MakeScene) -> None:
    source = make_scene()
    path = each_mask(source)[0]
    ids = np.asarray(Image.open(path)).astype(np.int16)
    np.save(path.with_suffix(".npy"), np.where(ids == 3, -100, ids))
    path.unlink()
    with pytest.raises(MaskError, match=r"000\.npy.*-100.*--ignore_label -100"):
        load(source)
    view = load(source, ignore_label=-100).train[0]
    assert view.masks is not None and view.masks.ids == (2,)
    np.testing.assert_array_equal(view.masks.label_map == -1, ids == 3)


def test_masks_a_pixel_off_are_told_once(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source)[:4]:
        ids = np.pad(np.asarray(Image.open(path)), ((0, 1), (0, 1)), mode="edge")
        Image.fromarray(ids).save(path)
    (notice,) = load(source).notices
    assert notice.startswith("4 of the masks differ by a pixel")
    assert "000.png: 41x31 for 40x30" in notice


def test_masks_of_another_scale_are_no_notice(make_scene: MakeScene) -> None:
    source = make_scene()
    assert load(source, resolution=2).notices == ()
    for path in each_mask(source):
        Image.open(path).resize((80, 60), Image.Resampling.NEAREST).save(path)
    found = collect(source)
    assert kinds(found) == ["scaled"] and found.findings[0].severity == "info"
    assert load(source).notices == ()


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


# --- reading once


def test_each_mask_is_decoded_once(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    from scene.masks import reading

    source, decoded = make_scene(), []
    read = reading.read_mask_file

    def counting(path: Path) -> MaskContent:
        decoded.append(path.name)
        return read(path)

    monkeypatch.setattr(reading, "read_mask_file", counting)
    scene = load(source)
    assert all(view.masks is not None for view in (*scene.train, *scene.train))
    assert sorted(decoded) == [path.name for path in each_mask(source)]
    decoded.clear()
    scene = load(source, data_cache=False)
    assert scene.train[0].masks is not None and scene.train[0].masks is not None
    assert sorted(decoded)[:3] == ["000.png"] * 3
