# SPDX-License-Identifier: Apache-2.0
"""Which file is whose mask: the names that people and programs give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.masks import match_mask_files
from utils.errors import MaskError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def matched(folder: Path, names: list[str]) -> dict[str, str]:
    found = match_mask_files(folder, names).chosen
    return {name: path.relative_to(folder).as_posix() for name, path in found.items()}


def test_sub_path_first_dot_and_basename(tmp_path: Path) -> None:
    touch(
        tmp_path / "a.png",
        tmp_path / "left/b.png",
        tmp_path / "frame.0001.png",
        tmp_path / "shot.png",
        tmp_path / "flat.png",
    )
    names = ["a.jpg", "left/b.jpg", "right/b.jpg", "frame.0001.jpg", "shot.v2.jpg", "sub/flat.JPG"]
    assert matched(tmp_path, names) == {
        "a.jpg": "a.png",
        "left/b.jpg": "left/b.png",
        "frame.0001.jpg": "frame.0001.png",
        "shot.v2.jpg": "shot.png",
        "sub/flat.JPG": "flat.png",
    }


@pytest.mark.parametrize(
    "mask",
    [
        "000.png",
        "000.jpg.png",  # COLMAP's rule
        "000.PNG",
        "000.tif",
        "000.TIFF",
        "000.bmp",
        "000.npy",
        "000.npz",
        "000.json",
        "000.JPG.PNG",
        "000.jpg",  # found, to be refused with its reason
    ],
)
def test_names_that_people_give(tmp_path: Path, mask: str) -> None:
    touch(tmp_path / "sub" / mask)
    assert matched(tmp_path, ["sub/000.jpg"]) == {"sub/000.jpg": f"sub/{mask}"}
    assert matched(tmp_path / "sub", ["other/000.jpg"]) == {"other/000.jpg": mask}


def test_exact_names_come_before_other_letter_case(tmp_path: Path) -> None:
    touch(tmp_path / "IMG_1.png", tmp_path / "Img_2.png", tmp_path / "cam/img_3.png")
    names = ["IMG_1.JPG", "img_1.jpg", "IMG_2.JPG", "CAM/IMG_3.JPG"]
    assert matched(tmp_path, names) == {
        "IMG_1.JPG": "IMG_1.png",  # img_1.jpg gets none: the file has its owner
        "IMG_2.JPG": "Img_2.png",
        "CAM/IMG_3.JPG": "cam/img_3.png",
    }
    touch(tmp_path / "iMG_2.png")  # two files may be meant: neither is taken
    assert "IMG_2.JPG" not in matched(tmp_path, names)


def test_of_several_suffixes_the_exact_picture_is_taken(tmp_path: Path) -> None:
    touch(*(tmp_path / f"000.{suffix}" for suffix in ("jpg", "json", "npy", "tif", "png")))
    for suffix in ("png", "tif", "npy", "json", "jpg"):
        assert matched(tmp_path, ["000.jpg"]) == {"000.jpg": f"000.{suffix}"}
        (tmp_path / f"000.{suffix}").unlink()
    assert matched(tmp_path, ["000.jpg"]) == {}


@pytest.mark.fault(row=16)
@pytest.mark.parametrize(
    "names", [["left/b.jpg", "right/b.jpg"], ["b.jpg", "b.png"], ["b.1.jpg", "b.2.jpg"]]
)
def test_two_images_with_one_mask_are_both_named(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path / "b.png")
    with pytest.raises(MaskError) as caught:
        match_mask_files(tmp_path, names)
    assert caught.value.kind == "shared"
    assert all(repr(name) in str(caught.value) for name in names)


def test_folders_of_binary_masks_are_not_folders_of_images(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.png", tmp_path / "a/20.png", tmp_path / "b/1.png", tmp_path / "c/x.png")
    names = ["a.jpg", "b.jpg", "b/1.jpg", "c.jpg"]  # b/1.png is the mask of b/1.jpg
    assert matched(tmp_path, names) == {"a.jpg": "a", "b/1.jpg": "b/1.png"}
    assert matched(tmp_path, ["a.v2.jpg"]) == {"a.v2.jpg": "a"}


def test_files_that_fit_no_image_are_listed(tmp_path: Path) -> None:
    touch(
        tmp_path / "000.png",
        tmp_path / "000.jpg",  # a preview beside a mask
        tmp_path / "a/3.png",
        tmp_path / "info.json",  # not a mask where no mask is a .json
        tmp_path / ".DS_Store",
        tmp_path / "._000.png",
        tmp_path / "@eaDir/000.png",
        tmp_path / "old/000b.png",
        tmp_path / "readme.txt",
        tmp_path / "007.npy",
    )
    found = match_mask_files(tmp_path, ["000.jpg", "a.jpg"])
    assert [path.name for path in found.unmatched] == ["007.npy", "000b.png"]
    touch(tmp_path / "b.json")
    found = match_mask_files(tmp_path, ["b.jpg", "a.jpg"])
    assert "info.json" in [path.name for path in found.unmatched]


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_in_which_a_disk_lists_its_files_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    """A folder that is there twice, itself and through a link, is taken under its first name."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b/000.png").touch()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    walk = os.walk

    def listed(folder: Path, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for parent, folders, files in walk(folder, **options):
            folders.sort(reverse=turned)
            yield parent, folders, files

    monkeypatch.setattr(os, "walk", listed)
    assert match_mask_files(tmp_path, ["000.jpg"]).chosen == {}
    assert match_mask_files(tmp_path, ["a/000.jpg"]).chosen == {"a/000.jpg": tmp_path / "a/000.png"}


def test_links_are_followed_and_rings_of_links_end(tmp_path: Path) -> None:
    touch(tmp_path / "real/000.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/cam").symlink_to(tmp_path / "real")
    (tmp_path / "real/ring").symlink_to(tmp_path / "masks")
    assert matched(tmp_path / "masks", ["cam/000.jpg"]) == {"cam/000.jpg": "cam/000.png"}


def test_what_the_folder_holds(tmp_path: Path) -> None:
    assert "no file that could be a mask" in match_mask_files(tmp_path, ["x.jpg"]).holds()
    for index in range(12):
        Image.fromarray(np.zeros((2, 2), "u1")).save(tmp_path / f"mask_{index:03d}.png")
    found = match_mask_files(tmp_path, ["x.jpg"])
    assert found.holds() == "the folder holds 12 files, for example mask_000.png"
