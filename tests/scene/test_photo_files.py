# SPDX-License-Identifier: Apache-2.0
"""Photographs that tools renamed: found where there is no doubt, refused with what is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from scene.readers.colmap.reading import natural_key
from scene.readers.photo_files import find_photographs
from utils.errors import DataError, UserError

MakeScene = Callable[..., Path]


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), no_masks=True, **changes), seed=0)


def files(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)
    return folder


@pytest.mark.parametrize(
    ("there", "name", "file"),
    [
        ("a.png", "a.png", "a.png"),
        ("IMG_1.png", "IMG_1.JPG", "IMG_1.png"),
        ("img_1.jpg", "IMG_1.JPG", "img_1.jpg"),
        ("IMG_1.JPEG", "img_1.jpg", "IMG_1.JPEG"),
        ("left/a.png", "left/a.jpg", "left/a.png"),
        ("LEFT/a.png", "left/a.png", "LEFT/a.png"),
        ("frame.001.png", "frame.001", "frame.001.png"),
        ("a.png", "a", "a.png"),
        ("a.png", "images/a.png", "a.png"),
        ("sub/a.png", "a.png", "sub/a.png"),
    ],
)
def test_names_that_can_only_mean_one_file(
    tmp_path: Path, there: str, name: str, file: str
) -> None:
    notices: list[str] = []
    files(tmp_path, there)
    found = find_photographs(tmp_path, [name], False, notices)
    assert found.paths == {name: tmp_path / file} and found.others == ()
    assert len(notices) == (name != file)


@pytest.mark.parametrize(
    ("there", "names"),
    [
        (["a.jpg", "a.png"], ["a.tif"]),  # two files for one name
        (["a.png"], ["left/a.png", "right/a.png"]),  # two names for one file
        (["A.png", "a.PNG"], ["a.png"]),
        (["x/a.png"], ["a/a.png", "b.png"]),  # another folder, while others are where they should
    ],
)
def test_no_guesses(tmp_path: Path, there: list[str], names: list[str]) -> None:
    files(tmp_path, *there, "b.png")
    paths = find_photographs(tmp_path, [*names, "b.png"], False, []).paths
    assert all(paths[name] == tmp_path / name for name in names)


def test_what_no_image_of_the_model_uses_is_told(make_scene: MakeScene) -> None:
    source = make_scene()
    files(source / "images", "extra.png", "more/extra.jpg", "._000.png")
    (source / "images/notes.txt").write_text("no photograph")
    (notice,) = load(source).notices
    assert notice.startswith("2 photographs of") and "extra.png, more/extra.jpg" in notice


def smaller(source: Path, folder: str, name: Callable[[int], str]) -> None:
    """Half-size copies of the scene's nine photographs under other names."""
    (source / folder).mkdir()
    for index, path in enumerate(sorted((source / "images").iterdir())):
        Image.open(path).resize((20, 15), Image.Resampling.BOX).save(source / folder / name(index))


def test_another_suffix_of_smaller_copies(make_scene: MakeScene) -> None:
    source = make_scene([f"IMG_{i}.JPG" for i in range(9)])
    smaller(source, "images_2", lambda i: f"img_{i}.png")
    scene = load(source, images="images_2")
    (notice,) = scene.notices
    assert "9 of 9 photographs" in notice and "img_0.png for IMG_0.JPG" in notice
    view = scene.train[3]
    assert view.name == "IMG_3.JPG" and view.image_path == source / "images_2/img_3.png"
    assert (view.camera.width, view.camera.fx) == (20, 18.0)


def test_other_names_are_paired_by_order_when_asked(make_scene: MakeScene) -> None:
    source = make_scene([f"IMG_{i}.png" for i in range(8, 17)])
    for index, path in enumerate(sorted((source / "images").iterdir(), key=lambda p: len(p.name))):
        Image.new("RGB", (40, 30), (index, 0, 0)).save(path)
    (source / "images_2").mkdir()
    for index in range(9):
        Image.new("RGB", (20, 15), (10 * index, 0, 0)).save(source / f"images_2/image{index}.png")
    with pytest.raises(DataError, match=r"IMG_8\.png.*image0\.png.*--pair_by_order"):
        load(source, images="images_2")
    scene = load(source, images="images_2", pair_by_order=True)
    assert "image0.png is IMG_8.png and so on to image8.png is IMG_16.png" in scene.notices[0]
    shown = {v.name: round(float(v.image[0].mean()) * 255) for v in scene.train}
    assert shown == {f"IMG_{8 + i}.png": 10 * i for i in range(9)}  # 9 before 10: numbers count


def test_pairs_keep_the_places_of_photographs_without_a_pose(make_scene: MakeScene) -> None:
    names = [f"IMG_{i}.png" for i in range(9)]
    source = make_scene(names)
    smaller(source, "images_2", lambda i: f"image{i}.png")
    lost = source / "images/IMG_3b.png"  # the model has no pose for it, but the copies have it
    shutil.copy(source / "images/IMG_3.png", lost)
    with pytest.raises(UserError, match="9 photographs, but there are 10"):
        load(source, images="images_2", pair_by_order=True)
    for index in range(8, 3, -1):
        (source / f"images_2/image{index}.png").rename(source / f"images_2/image{index + 1}.png")
    Image.new("RGB", (20, 15)).save(source / "images_2/image4.png")
    scene = load(source, images="images_2", pair_by_order=True)
    for index, view in enumerate(scene.train):
        assert view.name == names[index]
        assert view.image_path.name == f"image{index + (index > 3)}.png"


def test_counts_that_differ_are_not_paired(make_scene: MakeScene) -> None:
    source = make_scene()
    shutil.rmtree(source / "images")
    files(source / "images", "x.png", "y.png")
    with pytest.raises(DataError, match="none of the model's 9 images") as caught:
        load(source)
    assert "holds 2 photographs, such as x.png" in str(caught.value)
    assert "--pair_by_order" not in str(caught.value)
    with pytest.raises(UserError, match="--pair_by_order.*2 photographs.*9 images"):
        load(source, pair_by_order=True)


def test_links(tmp_path: Path, make_scene: MakeScene) -> None:
    source = make_scene()
    (source / "images").rename(source / "photos")
    (source / "images").mkdir()
    for path in (source / "photos").iterdir():  # inside the scene a photograph may be a link
        (source / "images" / path.name).symlink_to(path)
    assert len(load(source).train) == 9
    shutil.rmtree(source / "images")
    (source / "photos").rename(tmp_path / "far")
    (source / "images").symlink_to(tmp_path / "far")  # and so may the folder
    assert len(load(source).train) == 9


def test_backslashes_are_folders(make_scene: MakeScene) -> None:
    source = make_scene(["cam0/a.png", "cam1/b.png"], binary=False)
    path = source / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("cam0/a", "cam0\\a").replace("cam1/b", "cam1\\b"))
    assert [view.name for view in load(source).train] == ["cam0/a.png", "cam1/b.png"]


def test_the_folder_of_photographs(make_scene: MakeScene) -> None:
    source = make_scene()
    (source / "images").rename(source / "Images")
    scene = load(source)
    assert len(scene.train) == 9 and "is Images there" in scene.notices[0]
    (source / "Images").rename(source / "photos")
    with pytest.raises(DataError, match="--images photos has 9 of the model's 9"):
        load(source)
    (source / "photos").rename(source / "other")
    shutil.rmtree(source / "other")
    with pytest.raises(DataError, match="--images must name"):
        load(source)
    (source / "images").mkdir()
    (source / "images/000.HEIC").touch()
    with pytest.raises(DataError, match=r"9 of 9 images are missing.*1 \.heic files must be"):
        load(source)


def test_natural_order() -> None:
    names = ["b1.png", "a10.png", "a2.png", "a02.png", "a.png", "7", "10"]
    assert sorted(names, key=natural_key)[:2] == ["7", "10"]
    assert sorted(["a10.png", "a2.png", "a1.png"], key=natural_key) == [
        "a1.png",
        "a2.png",
        "a10.png",
    ]
    assert natural_key("²")[0] == (-1, "²")
    for names in (["a01.png", "a1.png"], ["a1.png", "a01.png"]):  # as different disks list them
        assert sorted(names, key=natural_key) == ["a01.png", "a1.png"]


def test_image_ids_are_kept(make_scene: MakeScene) -> None:
    scene = load(make_scene(), eval=True)
    ids = {view.name: view.image_id for view in (*scene.train, *scene.test)}
    assert ids == {f"{i:03d}.png": i + 1 for i in range(9)}
    assert np.unique(list(ids.values())).size == 9
