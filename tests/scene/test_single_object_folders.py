# SPDX-License-Identifier: Apache-2.0
"""Which masks of NVOS and SPIn-NeRF belong to which photographs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scene.benchmarks.single_object import ObjectTruth, nvos_objects, spin_nerf_objects
from utils.errors import DataError

VIEWS = ["IMG_4026.JPG", "IMG_4027.JPG", "sub/IMG_4038.JPG"]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_nvos(root: Path, name: str = "fern") -> None:
    touch(
        root,
        f"masks/{name}/IMG_4027.JPG",
        f"masks/{name}/IMG_4027_mask.png",
        f"reference_image/{name}/IMG_4038.JPG",
        f"scribbles/{name}/neg_0_{name}.png",
        f"scribbles/{name}/pos_0_{name}.png",
        f"scribbles/{name}/vis_0_{name}.png",
    )


@pytest.mark.parametrize("place", ["nvos", "labels/llff", ""])
def test_nvos_is_found_where_people_unpack_it(tmp_path: Path, place: str) -> None:
    root = tmp_path / place
    write_nvos(root)
    (found,) = nvos_objects(tmp_path, "fern_undistort", "", VIEWS)
    assert found == ObjectTruth(
        "fern",
        "sub/IMG_4038.JPG",
        root / "scribbles/fern/pos_0_fern.png",
        root / "scribbles/fern/neg_0_fern.png",
        {"IMG_4027.JPG": root / "masks/fern/IMG_4027_mask.png"},
        True,
    )


def test_one_scene_may_have_several_objects(tmp_path: Path) -> None:
    for name in ("horns_left", "horns_center", "hornet", "fern"):
        write_nvos(tmp_path, name)
    names = [found.name for found in nvos_objects(tmp_path, "horns", "", VIEWS)]
    assert names == ["horns_center", "horns_left"]
    assert [o.name for o in nvos_objects(tmp_path, "horns", "hornet", VIEWS)] == ["hornet"]
    with pytest.raises(DataError, match=r"named after scene mine; --object names one; it has fern"):
        nvos_objects(tmp_path, "mine", "", VIEWS)
    with pytest.raises(DataError, match=r"--object bee: no such object; it has fern, hornet"):
        nvos_objects(tmp_path, "mine", "bee", VIEWS)


def test_what_is_missing_of_nvos_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no labels of NVOS.*masks, reference_image, scribbles"):
        nvos_objects(tmp_path, "fern", "", VIEWS)
    write_nvos(tmp_path)
    with pytest.raises(DataError, match=r"IMG_4027_mask.png: the scene has no photograph IMG_4027"):
        nvos_objects(tmp_path, "fern", "", VIEWS[2:])
    touch(tmp_path, "scribbles/fern/pos_1_fern.png")
    with pytest.raises(DataError, match=r"one positive scribble.*found pos_0_fern.png, pos_1_fern"):
        nvos_objects(tmp_path, "fern", "", VIEWS)
    (tmp_path / "scribbles/fern/pos_1_fern.png").unlink()
    (tmp_path / "masks/fern/IMG_4027_mask.png").unlink()
    with pytest.raises(DataError, match="no mask of a target view"):
        nvos_objects(tmp_path, "fern", "", VIEWS)


def spin(root: Path, scene: str, views: list[str]) -> tuple[ObjectTruth, list[str]]:
    notices: list[str] = []
    (found,) = spin_nerf_objects(root, scene, views, notices)
    return found, notices


def test_spin_nerf_masks_named_after_photographs(tmp_path: Path) -> None:
    folder = tmp_path / "room (llff)"
    touch(folder, *(f"D_{i}{end}.png" for i in (1, 2) for end in ("", "_cutout", "_pseudo")))
    touch(folder, "annotations.json")
    touch(tmp_path / "fern (llff)", "image000.png")
    found, notices = spin(tmp_path, "room", ["D_0.JPG", "D_1.JPG", "D_2.JPG"])
    assert found.targets == {f"D_{i}.JPG": folder / f"D_{i}.png" for i in (1, 2)}
    assert (found.reference, found.positive) == ("D_1.JPG", folder / "D_1.png")
    assert found.negative is None and not found.is_scribbled and not notices
    assert spin(folder, "any name", ["D_1.JPG", "D_2.JPG"])[0].name == "any name"


def test_spin_nerf_masks_that_count_the_photographs(tmp_path: Path) -> None:
    """orchids has no image014, and the numbers after it stay what they are."""
    touch(tmp_path / "spin-nerf", "image000.png", "image002.png", "image002_pseudo.png")
    views = ["IMG_9.JPG", "IMG_7.JPG", "IMG_8.JPG"]
    found, notices = spin(tmp_path, "orchids", views)
    assert {view: path.name for view, path in found.targets.items()} == {
        "IMG_7.JPG": "image000.png",
        "IMG_9.JPG": "image002.png",
    }
    assert len(notices) == 1 and "image000.png is of IMG_7.JPG" in notices[0]
    with pytest.raises(DataError, match=r"counts to photograph 002, but the scene has 2"):
        spin(tmp_path, "orchids", views[:2])
    touch(tmp_path / "spin-nerf", "other.png")
    with pytest.raises(DataError, match=r"other.png: no photograph has this name.*imageNNN"):
        spin(tmp_path, "orchids", views)


def test_spin_nerf_masks_with_the_prefix_of_a_split(tmp_path: Path) -> None:
    folder = tmp_path / "lego_real_night_radial"
    touch(folder, "0_00001.png", "1_00002.png")
    found, _ = spin(tmp_path, "lego_real_night_radial", ["00001.png", "00002.png", "00003.png"])
    assert list(found.targets) == ["00001.png", "00002.png"]
    touch(folder, "1_00001.png")
    with pytest.raises(DataError, match=r"1_00001.png: 0_00001.png is a mask of the same view"):
        spin(tmp_path, "lego_real_night_radial", ["00001.png", "00002.png"])


def test_where_spin_nerf_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("'fern (llff)'); --gt_path")):
        spin_nerf_objects(tmp_path, "fern", VIEWS, [])
