# SPDX-License-Identifier: Apache-2.0
"""Photographs that cameras stored turned, and masks that were drawn on them upright."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from arguments import ModelParams
from scene.cameras import Camera
from scene.dataset import Scene, load_scene
from scene.masks import IdTable, read_label_map, read_layers
from scene.masks.orientation import mask_turns
from scene.pictures import StoredPicture
from tests.scene.balls import write_balls
from utils.errors import DataError
from utils.images import picture_header
from utils.orientation import SWAPPING, turned, undoing

CODES = range(1, 9)


def tagged(code: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = code
    return exif


@pytest.mark.parametrize("code", CODES)
def test_turns_are_pillows(code: int) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", exif=tagged(code))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    np.testing.assert_array_equal(turned(pixels, code), upright)
    np.testing.assert_array_equal(turned(upright, undoing(code)), pixels)
    assert (upright.shape != pixels.shape) == (code in SWAPPING)
    stack = np.stack([pixels, pixels + 100])
    np.testing.assert_array_equal(turned(stack, code)[1], upright + 100)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_headers_tell_the_tag(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGB", (8, 6))
    for code in CODES:
        image.save(tmp_path / f"a.{suffix}", exif=tagged(code))
        assert picture_header(tmp_path / f"a.{suffix}") == (8, 6, code)
    image.save(tmp_path / f"b.{suffix}")
    assert picture_header(tmp_path / f"b.{suffix}") == (8, 6, None)
    image.save(tmp_path / f"c.{suffix}", exif=tagged(77))
    assert picture_header(tmp_path / f"c.{suffix}")[2] is None
    exif = b"Exif\x00\x00" + bytes(range(40))
    image.save(tmp_path / f"d.{suffix}", exif=exif)
    assert picture_header(tmp_path / f"d.{suffix}")[2] is None


def test_a_turned_tiff_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.tif", exif=tagged(6))
    with pytest.raises(DataError, match=r"a\.tif.*orientation tag 6"):
        picture_header(tmp_path / "a.tif")


def turn_scene(
    source: Path, code: int, masks_upright: bool, poses_upright: bool, own_tag: int | None = None
) -> None:
    """Make the balls' photographs ones that were stored turned, and their masks as asked."""
    for path in sorted((source / "images").iterdir()):
        pixels = np.asarray(Image.open(path))
        if poses_upright:  # then what the file stores is what the tag turns upright
            pixels = turned(pixels.transpose(2, 0, 1), undoing(code)).transpose(1, 2, 0)
        Image.fromarray(pixels).save(path, exif=tagged(code))
    for path in sorted((source / "object_mask").iterdir()):
        ids = np.asarray(Image.open(path))
        if masks_upright and not poses_upright:
            ids = turned(ids, code)
        elif poses_upright and not masks_upright:
            ids = turned(ids, undoing(code))
        if own_tag is None:
            Image.fromarray(ids).save(path)
        else:
            Image.fromarray(ids).save(path, exif=tagged(own_tag))


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), **changes), seed=0)


def pictures(scene: Scene) -> list[tuple[NDArray, NDArray]]:
    found = []
    for view in scene.train:
        assert view.masks is not None
        found.append((view.image.numpy(), view.masks.label_map))
    return found


def check_equal(scene: Scene, plain: Scene) -> None:
    for (photo, ids), (expected, plain_ids) in zip(pictures(scene), pictures(plain), strict=True):
        np.testing.assert_array_equal(photo, expected)
        np.testing.assert_array_equal(ids, plain_ids)


@pytest.fixture
def plain(tmp_path: Path) -> Scene:
    """The balls as they are; the photographs and masks are kept in memory."""
    write_balls(tmp_path / "plain", 2)
    write_balls(tmp_path / "scene", 2)
    scene = load(tmp_path / "plain")
    pictures(scene)
    return scene


@pytest.mark.parametrize("code", [5, 6, 7, 8])
@pytest.mark.parametrize("masks_upright", [True, False])
@pytest.mark.parametrize("poses_upright", [True, False])
def test_sizes_tell_quarter_turns(
    tmp_path: Path, plain: Scene, code: int, masks_upright: bool, poses_upright: bool
) -> None:
    source = tmp_path / "scene"
    turn_scene(source, code, masks_upright, poses_upright)
    scene = load(source)
    check_equal(scene, plain)
    words = "turned upright" if poses_upright else "as they are stored"
    assert any(f"2 of 2 photographs have an EXIF orientation ({code})" in t for t in scene.notices)
    assert any(words in text for text in scene.notices)
    turned_masks = masks_upright != poses_upright
    assert any("2 of 2 masks are turned" in text for text in scene.notices) == turned_masks


@pytest.mark.parametrize("code", [2, 3, 4])
def test_half_turns_and_mirrors_need_a_word(tmp_path: Path, plain: Scene, code: int) -> None:
    source = tmp_path / "scene"
    turn_scene(source, code, masks_upright=True, poses_upright=False)
    with pytest.raises(DataError, match=f"orientation {code}.*--mask_orientation upright"):
        load(source)
    check_equal(load(source, mask_orientation="upright"), plain)
    assert len(load(source, no_masks=True).notices) == 1
    write_balls(source, 2)
    turn_scene(source, code, masks_upright=False, poses_upright=False)
    check_equal(load(source, mask_orientation="stored"), plain)


@pytest.mark.parametrize("code", [2, 3, 4, 6])
def test_a_masks_own_tag_tells(tmp_path: Path, plain: Scene, code: int) -> None:
    source = tmp_path / "scene"
    turn_scene(source, code, masks_upright=True, poses_upright=False, own_tag=1)
    check_equal(load(source), plain)
    write_balls(source, 2)
    turn_scene(source, code, masks_upright=False, poses_upright=False, own_tag=code)
    scene = load(source)
    check_equal(scene, plain)
    assert not any("masks are turned" in text for text in scene.notices)


def test_only_the_turned_photographs_of_a_scene_count(tmp_path: Path, plain: Scene) -> None:
    source = tmp_path / "scene"
    photo = source / "images/001.png"
    Image.open(photo).save(photo, exif=tagged(3))
    mask = source / "object_mask/001.png"
    Image.fromarray(np.asarray(Image.open(mask))[::-1, ::-1]).save(mask)
    with pytest.raises(DataError, match=r"001\.png.*1 such mask"):
        load(source)
    scene = load(source, mask_orientation="upright")
    check_equal(scene, plain)
    assert any("1 of 2 masks are turned" in text for text in scene.notices)


def test_without_tags_nothing_is_asked(plain: Scene) -> None:
    assert plain.notices == ()


def test_square_photographs_tell_nothing(tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "mask.png")
    picture = StoredPicture(40, 40, orientation=6)
    with pytest.raises(DataError, match="--mask_orientation"):
        mask_turns(tmp_path / "mask.png", (40, 40), picture)
    wished = StoredPicture(40, 40, orientation=6, mask_orientation="upright")
    assert mask_turns(tmp_path / "mask.png", (40, 40), wished) == (8,)
    assert mask_turns(tmp_path / "mask.png", (40, 40), StoredPicture(40, 40)) == ()


def test_a_photograph_of_another_shape_names_its_tag(tmp_path: Path) -> None:
    write_balls(tmp_path, 2)
    path = tmp_path / "images/001.png"
    Image.new("RGB", (40, 72)).save(path, exif=tagged(3))
    with pytest.raises(DataError, match=r"40x72 pixels; EXIF orientation 3.*96x72"):
        load(tmp_path)


def test_overlapping_masks_stand_like_the_label_map(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (40, 30)).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "mask.png")
    picture = StoredPicture(40, 30, orientation=6)  # stored lying; the mask stands upright
    camera = Camera(torch.eye(4, dtype=torch.float64), 50, 50, 20, 15, 40, 30, "mask.png", 0)
    expected = read_label_map(tmp_path / "mask.png", camera, IdTable(()), picture)
    layers = read_layers(tmp_path / "mask.png", camera, picture)
    np.testing.assert_array_equal(layers.to_label_map("small"), expected)
    np.testing.assert_array_equal(expected, np.rot90(ids))  # tag 6: shown turned clockwise
