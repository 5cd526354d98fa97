# SPDX-License-Identifier: Apache-2.0
"""A small scene on disk, in either COLMAP form, for the tests of the readers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene.readers.colmap import ColmapCamera, ColmapImage, ColmapPoints, write_colmap_model

SIZE = (40, 30)


def orbit_pose(angle: float, radius: float = 4.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(quaternion, translation) of a camera on a circle in the x-z plane, looking at the origin."""
    half = -angle / 2
    # A turn about y; the camera stands at -radius along its own viewing axis.
    return (math.cos(half), 0.0, math.sin(half), 0.0), (0.0, 0.0, radius)


def make_model(
    names: list[str], size: tuple[int, int] = SIZE
) -> tuple[list[ColmapCamera], list[ColmapImage], ColmapPoints]:
    width, height = size
    params = (width * 0.9, width * 0.9, width / 2 + 1.5, height / 2 - 0.5)
    cameras = [ColmapCamera(1, "PINHOLE", width, height, params)]
    images = []
    for index, name in enumerate(names):
        quaternion, translation = orbit_pose(2 * math.pi * index / len(names))
        images.append(ColmapImage(index + 1, name, 1, quaternion, translation))
    rng = np.random.default_rng(0)
    points = ColmapPoints(rng.uniform(-1, 1, (50, 3)), rng.integers(0, 256, (50, 3)).astype("u1"))
    return cameras, images, points


def write_photo(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype("u1")).save(path)


def write_mask(path: Path, size: tuple[int, int] = SIZE, ids: tuple[int, ...] = (3, 7)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), np.uint8)
    for index, value in enumerate(ids):
        mask[2 + 5 * index : 6 + 5 * index, 4:20] = value
    Image.fromarray(mask).save(path)


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Path]:
    """make_scene(names=..., masks=True, binary=True, camera_size=..., image_size=...) -> folder."""

    def build(
        names: list[str] | None = None,
        masks: bool = True,
        binary: bool = True,
        camera_size: tuple[int, int] = SIZE,
        image_size: tuple[int, int] = SIZE,
    ) -> Path:
        names = names or [f"{i:03d}.png" for i in range(9)]
        source = tmp_path / "scene"
        write_colmap_model(source / "sparse/0", *make_model(names, camera_size), binary=binary)
        for index, name in enumerate(names):
            write_photo(source / "images" / name, image_size, seed=index)
            if masks:
                mask = source / "object_mask" / Path(name).with_suffix(".png")
                write_mask(mask, image_size)
        (source / "labels.json").write_text(json.dumps({"id_to_name": {"3": "cup", "9": "gone"}}))
        return source

    return build
