# SPDX-License-Identifier: Apache-2.0
"""Two objects in three images, as every annotation tool would export them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from arguments import ModelParams
from arguments.masks import CheckParams
from iqgs.preparation.mask_check import MaskReport, check_masks
from scene.masks import read_mask_file

from . import exports
from .exports import Thing
from .shapes import box

NAMES = ["a.jpg", "b 1.jpg", "sub/c.jpg"]
# The cup is another one of the list in each image, and not in all of them.
CUP = [box(4, 4, 16, 14), box(5, 5, 17, 15), None]
PLATE = [box(20, 16, 36, 26), box(18, 16, 34, 26), box(10, 10, 26, 20)]


def things(tracks: bool = True, doubled: bool = False) -> dict[str, list[Thing]]:
    """Image name -> its objects: a cup (track 5) and a plate (track 2)."""
    scene = {}
    for name, cup, plate in zip(NAMES, CUP, PLATE, strict=True):
        found = [Thing(plate, "plate", 2 * tracks)]
        if cup is not None:
            found.insert(0, Thing(cup, "plate" if doubled else "cup", 5 * tracks))
        scene[name] = found
    return scene


def imported(scene: Path, path: Path, **changes: object) -> MaskReport:
    settings = {"import_path": str(path), "convert": "object_mask", **changes}
    return check_masks(CheckParams(**settings), ModelParams(str(scene)))  # type: ignore[arg-type]


def maps(scene: Path) -> list[np.ndarray]:
    folder = scene / "object_mask"
    names = [Path(name).with_suffix(".png") for name in NAMES]
    return [read_mask_file(folder / name).flat().map() for name in names]


def expected(cup: int, plate: int) -> list[np.ndarray]:
    found = []
    for cup_mask, plate_mask in zip(CUP, PLATE, strict=True):
        ids = np.zeros((30, 40), int)
        ids[plate_mask] = plate
        if cup_mask is not None:
            ids[cup_mask] = cup
        found.append(ids)
    return found


def assert_maps(scene: Path, cup: int, plate: int) -> None:
    for found, wanted in zip(maps(scene), expected(cup, plate), strict=True):
        np.testing.assert_array_equal(found, wanted)


Write = Callable[[Path], Path]
WITH_TRACKS: dict[str, Write] = {
    "cvat polygons": lambda folder: exports.cvat_images(folder, things(), False),
    "cvat masks": lambda folder: exports.cvat_images(folder, things(), True),
    "cvat video": lambda folder: exports.cvat_video(folder, things()),
    "supervisely bitmaps": lambda folder: exports.supervisely(folder, things(), True),
    "supervisely polygons": lambda folder: exports.supervisely(folder, things(), False),
    "coco codes": lambda folder: exports.coco(folder, things(), "codes"),
    "coco plain codes": lambda folder: exports.coco(folder, things(), "plain"),
    "coco polygons": lambda folder: exports.coco(folder, things(), "polygons"),
    "coco attributes": lambda folder: exports.coco(folder, things(), "codes", "attributes"),
}


BY_LABEL: dict[str, Write] = {
    "cvat": lambda folder: exports.cvat_images(folder, things(False), True),
    "cvat pictures": lambda folder: exports.cvat_pictures(folder, things(False)),
    "supervisely": lambda folder: exports.supervisely(folder, things(False), True),
    "coco": lambda folder: exports.coco(folder, things(False), "codes"),
    "yolo": lambda folder: exports.yolo(folder, things(False)),
}


FRESH: dict[str, Write] = {
    "cvat": lambda folder: exports.cvat_images(folder, things(False, True), True),
    "cvat pictures": lambda folder: exports.cvat_pictures(folder, things(False, True)),
    "coco": lambda folder: exports.coco(folder, things(False, True), "codes"),
    "yolo": lambda folder: exports.yolo(folder, things(False, True)),
    "amg.py": lambda folder: exports.sam_folders(folder, things(False)),
}
