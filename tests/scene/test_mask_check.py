# SPDX-License-Identifier: Apache-2.0
"""What a scene's loading says about its mask files: every finding, its severity, its sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene.masks import KINDS, MaskContent, collection
from utils.errors import MaskError

from .mask_scenes import collect, each_mask, kinds, load

MakeScene = Callable[..., Path]


def test_a_clean_scene_has_no_findings(make_scene: MakeScene) -> None:
    found = collect(make_scene())
    assert found.findings == () and found.table.originals == (3, 7) and not found.is_fresh


def test_without_memory_for_threads_masks_are_read_one_by_one(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies at its start would be waited for forever (python/cpython#140746)."""
    source = make_scene()
    expected = collect(source)
    monkeypatch.setattr(collection, "has_room_for_threads", lambda count: False)
    monkeypatch.setattr(collection, "ThreadPoolExecutor", None)
    found = collect(source)
    assert found.table == expected.table and list(found.masks) == list(expected.masks)


def test_every_kind_of_finding_is_listed_with_its_severity() -> None:
    assert {severity for severity, _, _ in KINDS.values()} == {"error", "warning", "info"}


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
    assert kinds(found)[:6] == ["missing", "unreadable", "size", "picture", "lossy", "ids"]
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


@pytest.mark.fault(row=20)
def test_masks_a_pixel_off_are_told_once(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in each_mask(source)[:4]:
        ids = np.pad(np.asarray(Image.open(path)), ((0, 1), (0, 1)), mode="edge")
        Image.fromarray(ids).save(path)
    (notice,) = load(source).notices
    assert notice.startswith("4 of 9 masks differ by a pixel")
    assert "000.png: 41x31 for 40x30" in notice


def test_masks_of_another_scale_are_no_notice(make_scene: MakeScene) -> None:
    source = make_scene()
    assert load(source, resolution=2).notices == ()
    for path in each_mask(source):
        Image.open(path).resize((80, 60), Image.Resampling.NEAREST).save(path)
    found = collect(source)
    assert kinds(found) == ["scaled"] and found.findings[0].severity == "info"
    assert load(source).notices == ()


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
