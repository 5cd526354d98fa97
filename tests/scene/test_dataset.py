# SPDX-License-Identifier: Apache-2.0
"""Whole scenes: sizes, splits, masks, points, and every fault that can be told before training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from utils.errors import DataError, FormatError

REAL = Path(__file__).parents[2].parent / "shared" / "data"
MakeScene = Callable[..., Path]


def load(source: Path, **changes: Any) -> Scene:
    seed = changes.pop("seed", 0)
    return load_scene(ModelParams(str(source), **{"random_points": 200, **changes}), seed=seed)


def names(views: tuple[Any, ...]) -> list[str]:
    return [view.name for view in views]


@pytest.mark.parametrize("binary", [True, False])
def test_a_scene_is_what_was_written(make_scene: MakeScene, binary: bool) -> None:
    source = make_scene(binary=binary)
    scene = load(source)
    assert (len(scene.train), scene.test, scene.kind, scene.notices) == (9, (), "colmap", ())
    assert [view.camera.uid for view in scene.train] == list(range(9))
    view = scene.train[4]
    photo = np.asarray(Image.open(source / "images" / view.name)).transpose(2, 0, 1) / 255.0
    np.testing.assert_allclose(view.image.numpy(), photo, atol=1e-6)
    assert view.image.dtype == torch.float32
    # The principal point of the file is used, not the middle of the image.
    assert (view.camera.fx, view.camera.cx, view.camera.cy) == (36.0, 21.5, 14.5)
    assert scene.extent == pytest.approx(1.1 * 4.0)
    assert len(scene.points) == 50
    assert scene.id_table is not None and scene.id_table.originals == (3, 7)
    assert scene.id_table.names == {3: "cup"}
    masks = view.masks
    assert masks is not None and masks.ids == (1, 2)
    np.testing.assert_array_equal(np.unique(masks.label_map), [0, 1, 2])


def test_pixels_are_read_late_and_once(make_scene: MakeScene) -> None:
    source = make_scene()
    cached, fresh = load(source), load(source, data_cache=False)
    for scene in (cached, fresh):
        assert scene.train[0].image.shape == (3, 30, 40) and scene.train[0].masks is not None
    shutil.rmtree(source / "images")
    shutil.rmtree(source / "object_mask")
    assert cached.train[0].image.shape == (3, 30, 40) and cached.train[0].masks is not None
    with pytest.raises(DataError, match="no such file"):
        _ = fresh.train[0].image


def test_intrinsics_pixels_and_masks_follow_the_resolution(make_scene: MakeScene) -> None:
    view = load(make_scene(), resolution=20).train[0]
    camera = view.camera
    assert (camera.width, camera.height, camera.fx, camera.cx) == (20, 15, 18.0, 10.75)
    assert view.image.shape == (3, 15, 20)
    assert view.masks is not None and view.masks.label_map.shape == (15, 20)


def test_wide_images_are_shrunk_with_one_notice(make_scene: MakeScene) -> None:
    scene = load(make_scene(["a.png", "b.png"], camera_size=(1700, 20), image_size=(1700, 20)))
    assert scene.train[0].camera.width == 1600
    assert len([text for text in scene.notices if "1600" in text]) == 1


@pytest.mark.fault(row=19)
@pytest.mark.parametrize("size", [(20, 15), (80, 60), (41, 30), (13, 10)])
def test_resampled_images_take_the_intrinsics_along(
    make_scene: MakeScene, size: tuple[int, int]
) -> None:
    camera = load(make_scene(image_size=size, masks=False), no_masks=True).train[0].camera
    assert (camera.width, camera.height) == size
    assert camera.fx == pytest.approx(36.0 * size[0] / 40)
    assert camera.cy == pytest.approx(14.5 * size[1] / 30)


@pytest.mark.fault(row=19)
def test_another_aspect_is_refused_with_both_sizes(make_scene: MakeScene) -> None:
    with pytest.raises(DataError, match=r"40x40.*40x30"):
        load(make_scene(image_size=(40, 40)))


@pytest.mark.fault(row=17)
def test_missing_images_are_counted_and_five_named(make_scene: MakeScene) -> None:
    source = make_scene()
    for index in range(7):
        (source / f"images/{index:03d}.png").unlink()
    with pytest.raises(DataError, match="7 of 9 images are missing") as caught:
        load(source)
    assert "004.png and 2 more" in str(caught.value) and "005.png" not in str(caught.value)
    scene = load(source, skip_missing=True)
    assert len(scene.train) == 2 and "7 of 9" in scene.notices[0]
    (source / "images/007.png").unlink()
    with pytest.raises(DataError, match="two views"):
        load(source, skip_missing=True)


def test_folders_that_are_not_scenes(tmp_path: Path, make_scene: MakeScene) -> None:
    with pytest.raises(DataError, match="--source_path"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match="neither a COLMAP model"):
        load(tmp_path)
    with pytest.raises(DataError, match="--images"):
        load(make_scene(), images="images_4")


@pytest.mark.fault(row=15)
def test_links_out_of_the_scene_are_refused_linked_roots_are_not(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    source = make_scene()
    (source / "images").rename(tmp_path / "elsewhere")
    (source / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(source)
    assert len(load(tmp_path / "linked").train) == 9
    (tmp_path / "elsewhere/003.png").rename(tmp_path / "secret.png")
    (tmp_path / "elsewhere/003.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"003\.png.*link"):
        load(source)


@pytest.mark.fault(row=16)
def test_equal_stems_in_sub_folders_stay_apart(make_scene: MakeScene) -> None:
    source = make_scene(["left/a.png", "right/a.png", "b.png"])
    scene = load(source)
    assert names(scene.train) == ["b.png", "left/a.png", "right/a.png"]
    assert scene.train[1].mask_path == source / "object_mask/left/a.png"
    shutil.move(source / "object_mask/left/a.png", source / "object_mask/a.png")
    shutil.rmtree(source / "object_mask/right")
    with pytest.raises(DataError, match=r"left/a\.png.*right/a\.png"):
        load(source)


@pytest.mark.fault(row=21)
def test_views_without_masks_train_colour_only_and_are_told_once(make_scene: MakeScene) -> None:
    source = make_scene()
    for index in (0, 4):
        (source / f"object_mask/{index:03d}.png").unlink()
    scene = load(source)
    assert [view.masks is None for view in scene.train] == [i in (0, 4) for i in range(9)]
    assert (
        len([text for text in scene.notices if text.startswith("2 of 9 views have no mask")]) == 1
    )


@pytest.mark.fault(row=21)
def test_no_masks_at_all_need_a_word(make_scene: MakeScene) -> None:
    source = make_scene(masks=False)
    with pytest.raises(DataError, match="--no_masks"):
        load(source)
    scene = load(source, no_masks=True)
    assert scene.id_table is None and all(view.masks is None for view in scene.train)


def test_a_second_mask_folder_and_the_zero_label(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in sorted((source / "object_mask").iterdir()):
        (source / "tracker").mkdir(exist_ok=True)
        Image.new("L", (20, 15), 200).save(source / "tracker" / path.name)
    table = load(source, object_path="tracker", zero_label="ignore").id_table
    assert table is not None and (table.originals, table.zero_label) == ((200,), "ignore")
    view = load(source, object_path="tracker").train[0]
    assert view.masks is not None and view.masks.label_map.shape == (30, 40)


def test_mask_faults_come_before_training(make_scene: MakeScene) -> None:
    source = make_scene()
    path = source / "object_mask/004.png"
    Image.new("L", (40, 40)).save(path)
    with pytest.raises(DataError, match=r"004\.png.*40x40.*40x30"):
        load(source)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        load(source)
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (30, 40, 3)).astype("u1")).save(path)
    with pytest.raises(DataError, match="visualisation"):
        load(source)


@pytest.mark.fault(row=24)
def test_all_masks_empty_is_noticed(make_scene: MakeScene) -> None:
    source = make_scene()
    for path in (source / "object_mask").iterdir():
        Image.new("L", (40, 30)).save(path)
    scene = load(source)
    assert scene.id_table is not None and len(scene.id_table) == 0
    assert any("all masks are empty" in text for text in scene.notices)


@pytest.mark.fault(row=29)
@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_without_points_random_ones_and_a_notice(make_scene: MakeScene, kind: str) -> None:
    source = make_scene()
    path = source / "sparse/0/points3D.bin"
    path.unlink()
    if kind == "empty":
        path.write_bytes(bytes(8))
    first, again, other = load(source), load(source), load(source, seed=1)
    assert len(first.points) == 200
    assert any("--random_init" in text for text in first.notices)
    assert torch.equal(first.points.positions, again.points.positions)
    assert not torch.equal(first.points.positions, other.points.positions)
    # Within 1.5 camera radii of what the cameras look at.
    assert float(first.points.positions.norm(dim=1).max()) <= 1.5 * 4.0 + 1e-3
    load(make_scene()).points.save(source / "sparse/0/points3D.ply")
    path.unlink()
    assert len(load(source).points) == 50
    assert len(load(source, random_init=True).points) == 200


def test_damaged_points_are_never_passed_over(make_scene: MakeScene) -> None:
    source = make_scene()
    load(source).points.save(source / "sparse/0/points3D.ply")
    path = source / "sparse/0/points3D.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"points3D\.bin"):
        load(source)


def test_cameras_in_one_place(make_scene: MakeScene) -> None:
    scene = load(make_scene(["only.png"]))
    assert scene.extent == 1.0 and any("one place" in text for text in scene.notices)


@pytest.mark.fault(row=44)
def test_names_with_spaces_and_umlauts(make_scene: MakeScene) -> None:
    scene = load(make_scene(["Küche 1.png", "sub ordner/é.png"], binary=False))
    assert names(scene.train) == ["Küche 1.png", "sub ordner/é.png"]
    assert all(view.masks is not None for view in scene.train)


@pytest.mark.parametrize(
    ("name", "objects"), [("bonsai", 0), ("mlp_table", 8), ("tracebot_003", 3)]
)
def test_real_scenes(name: str, objects: int) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("the real scenes are not here")
    scene = load(REAL / name, eval=True, resolution=320, no_masks=not objects)
    assert len(scene.test) == 13 and len(scene.train) + len(scene.test) >= 100
    assert (0 if scene.id_table is None else len(scene.id_table)) == objects
    view = scene.train[10]
    assert view.image.shape == (3, view.camera.height, 320)
    if objects:
        assert view.masks is not None and set(view.masks.ids) <= set(range(1, objects + 1))
