# SPDX-License-Identifier: Apache-2.0
"""Scenes that were photographed through bent lenses look as if through a pinhole once loaded.

The photographs are ray-cast through the inverse of the lens, by OpenCV, pycolmap or a closed form;
what is loaded is compared with the same world ray-cast through the view's own pinhole.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from scene.lenses import LENS_MODELS
from scene.pictures import StoredPicture
from scene.readers.colmap import read_colmap_model
from scene.view import View
from tests.scene.balls import SIZE, Inverse, cast, write_balls
from utils.errors import DataError

FXY = (80.0, 82.0, 47.0, 37.0)
F = (80.0, 47.0, 37.0)


def by_opencv(numbers: tuple[float, ...], fisheye: bool = False) -> Inverse:
    def inverse(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        points = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
        if fisheye:
            found = cv2.fisheye.undistortPoints(points, np.eye(3), np.array(numbers))
        else:
            stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
            found = cv2.undistortPoints(points, np.eye(3), np.array(numbers), criteria=stop)
        return found[:, 0, 0].reshape(x.shape), found[:, 0, 1].reshape(x.shape)

    return inverse


def by_radius(scale: Any) -> Inverse:
    """From a closed form of the ray's radius over the lens's."""

    def inverse(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        radius = np.maximum(np.hypot(x, y), 1e-12)
        return x * scale(radius) / radius, y * scale(radius) / radius

    return inverse


def by_pycolmap(model: str, numbers: tuple[float, ...]) -> Inverse:
    def inverse(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        pycolmap = pytest.importorskip("pycolmap", reason="pip install pycolmap runs this test")
        camera = pycolmap.Camera(model=model, width=1, height=1, params=[1, 1, 0, 0, *numbers])
        found = camera.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
        return found[:, 0].reshape(x.shape), found[:, 1].reshape(x.shape)

    return inverse


ALPHA, BETA = 0.6, 1.1
PRISM = (0.05, -0.02, 0.003, -0.002, 0.003, -0.001, 0.004, -0.005)
ARIA = (0.05, -0.02, 0.01, 0.003, -0.002, 0.001, 0.003, -0.002, 0.004, 0.001, -0.005, 0.002)
RATIONAL = (-0.1, 0.02, 0.003, -0.002, 0.01, 0.05, -0.01, 0.002)
LENSES: dict[str, tuple[tuple[float, ...], tuple[float, ...], Inverse]] = {
    "SIMPLE_RADIAL": (F, (-0.15,), by_opencv((-0.15, 0, 0, 0))),
    "RADIAL": (F, (0.1, 0.05), by_opencv((0.1, 0.05, 0, 0))),
    "OPENCV": (FXY, (-0.2, 0.05, 0.01, -0.02), by_opencv((-0.2, 0.05, 0.01, -0.02))),
    "FULL_OPENCV": (FXY, RATIONAL, by_opencv(RATIONAL)),
    "OPENCV_FISHEYE": (FXY, (0.05, -0.02, 0, 0), by_opencv((0.05, -0.02, 0, 0), fisheye=True)),
    "SIMPLE_RADIAL_FISHEYE": (F, (0.03,), by_opencv((0.03, 0, 0, 0), fisheye=True)),
    "RADIAL_FISHEYE": (F, (0.03, -0.01), by_opencv((0.03, -0.01, 0, 0), fisheye=True)),
    "SIMPLE_FISHEYE": (F, (), by_radius(np.tan)),
    "FISHEYE": (FXY, (), by_radius(np.tan)),
    "FOV": (FXY, (0.9,), by_radius(lambda r: np.tan(0.9 * r) / (2 * math.tan(0.45)))),
    "SIMPLE_DIVISION": (F, (-0.2,), by_radius(lambda r: r / (1 - 0.2 * r * r))),
    "DIVISION": (FXY, (-0.2,), by_radius(lambda r: r / (1 - 0.2 * r * r))),
    "EUCM": (
        FXY,
        (ALPHA, BETA),
        by_radius(
            lambda r: (
                r
                * (ALPHA * np.sqrt(1 - (2 * ALPHA - 1) * BETA * r * r) + 1 - ALPHA)
                / (1 - BETA * ALPHA**2 * r * r)
            )
        ),
    ),
    "THIN_PRISM_FISHEYE": (FXY, PRISM, by_pycolmap("THIN_PRISM_FISHEYE", PRISM)),
    "RAD_TAN_THIN_PRISM_FISHEYE": (FXY, ARIA, by_pycolmap("RAD_TAN_THIN_PRISM_FISHEYE", ARIA)),
}


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), **changes), seed=0)


def check_against_the_world(view: View) -> None:
    """Photograph and masks equal the world through the view's pinhole, but for the outlines."""
    camera = view.camera
    pinhole = (camera.fx, camera.fy, camera.cx, camera.cy)
    photo, ids = cast(camera.world_to_view.numpy(), pinhole, (camera.width, camera.height))
    assert view.masks is not None
    found = view.masks.label_map
    inside = minimum_filter(ids, 3) == maximum_filter(ids, 3)
    assert inside.mean() > 0.8
    np.testing.assert_array_equal(found[inside & (found >= 0)], ids[inside & (found >= 0)])
    assert (found == ids).mean() > 0.97
    wide = minimum_filter(ids, 5) == maximum_filter(ids, 5)
    off = np.abs(view.image.numpy().transpose(1, 2, 0) * 255 - photo)[wide & (found >= 0)]
    assert off.mean() < 0.6 and np.quantile(off, 0.98) < 4  # the floor's rim and the horizon


@pytest.mark.fault(row=28)
@pytest.mark.parametrize("model", LENSES)
def test_every_lens_becomes_a_pinhole(tmp_path: Path, model: str) -> None:
    intrinsics, numbers, inverse = LENSES[model]
    write_balls(tmp_path, 2, model, (*intrinsics, *numbers), inverse)
    scene = load(tmp_path)
    assert [text for text in scene.notices if model in text and "2 of 2" in text]
    for view in scene.train:
        assert view.camera.fx == 80.0
        check_against_the_world(view)
        valid = view.valid_on(torch.device("cpu"))
        assert valid is None or float(valid.float().mean()) > 0.99


def test_without_straightening_the_world_would_not_fit(tmp_path: Path) -> None:
    """The check above can fail: the same photographs taken for a pinhole's."""
    intrinsics, _, inverse = LENSES["SIMPLE_RADIAL"]
    write_balls(tmp_path, 1, "SIMPLE_PINHOLE", intrinsics, inverse)
    with pytest.raises(AssertionError):
        check_against_the_world(load(tmp_path).train[0])


@pytest.mark.parametrize("resolution", [2, 48])
def test_shrunk_views_are_straightened_too(tmp_path: Path, resolution: int) -> None:
    intrinsics, numbers, inverse = LENSES["OPENCV"]
    write_balls(tmp_path, 1, "OPENCV", (*intrinsics, *numbers), inverse)
    full, small = load(tmp_path).train[0], load(tmp_path, resolution=resolution).train[0]
    camera = small.camera
    assert camera.width in (48, round(full.camera.width / 2))
    assert small.image.shape == (3, camera.height, camera.width)
    pinhole = (camera.fx, camera.fy, camera.cx, camera.cy)
    _, ids = cast(camera.world_to_view.numpy(), pinhole, (camera.width, camera.height))
    assert small.masks is not None and (small.masks.label_map == ids).mean() > 0.95
    # Photograph: against the full-size one averaged down.
    expected = torch.nn.functional.interpolate(
        full.image[None], (camera.height, camera.width), mode="area"
    )[0]
    assert float((small.image - expected).abs().mean()) < 0.02


def test_masks_of_another_size_and_copies_of_photographs(tmp_path: Path) -> None:
    intrinsics, numbers, inverse = LENSES["SIMPLE_RADIAL"]
    write_balls(tmp_path, 1, "SIMPLE_RADIAL", (*intrinsics, *numbers), inverse)
    image = Image.open(tmp_path / "images/000.png")
    (tmp_path / "images_2").mkdir()
    image.resize((48, 36), Image.Resampling.BOX).save(tmp_path / "images_2/000.png")
    view, full = load(tmp_path, images="images_2").train[0], load(tmp_path).train[0]
    assert view.camera.width == pytest.approx(full.camera.width / 2, abs=1)
    assert view.camera.fx == 40.0
    camera = view.camera
    pinhole = (camera.fx, camera.fy, camera.cx, camera.cy)
    _, ids = cast(camera.world_to_view.numpy(), pinhole, (camera.width, camera.height))
    assert view.masks is not None and (view.masks.label_map == ids).mean() > 0.95


def test_zero_distortion_keeps_the_pixels(tmp_path: Path) -> None:
    write_balls(tmp_path, 2, "OPENCV", (*FXY, 0.0, 0.0, 0.0, 0.0))
    view = load(tmp_path).train[0]
    photo = np.asarray(Image.open(tmp_path / "images/000.png")).transpose(2, 0, 1) / 255.0
    np.testing.assert_allclose(view.image.numpy(), photo, atol=1e-6)
    assert view.valid_on(torch.device("cpu")) is None
    assert load(tmp_path).notices == ()


def test_a_damaged_calibration_names_the_photograph(tmp_path: Path) -> None:
    write_balls(tmp_path, 1, "SIMPLE_RADIAL", (*F, -900.0))
    with pytest.raises(DataError, match=r"000\.png: a SIMPLE_RADIAL camera.*calibration"):
        load(tmp_path)


def test_a_transforms_file_with_distortion(tmp_path: Path) -> None:
    _, numbers, inverse = LENSES["OPENCV"]
    poses = write_balls(tmp_path, 2, "OPENCV", (*FXY, *numbers), inverse)
    for file in sorted((tmp_path / "sparse/0").iterdir()):
        file.unlink()
    to_opengl = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {
            "file_path": f"images/{i:03d}.png",
            "transform_matrix": (np.linalg.inv(p) @ to_opengl).tolist(),
        }
        for i, p in enumerate(poses)
    ]
    record = dict(zip(("fl_x", "fl_y", "cx", "cy"), FXY, strict=True))
    record |= dict(zip(("k1", "k2", "p1", "p2"), numbers, strict=True))
    record |= {"w": SIZE[0], "h": SIZE[1], "camera_model": "OPENCV", "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(record))
    for view in load(tmp_path).train:
        check_against_the_world(view)


def test_two_lenses_in_one_scene(tmp_path: Path) -> None:
    intrinsics, numbers, inverse = LENSES["SIMPLE_RADIAL"]
    write_balls(tmp_path, 4, "SIMPLE_RADIAL", (*intrinsics, *numbers), inverse)
    write_balls(tmp_path / "other", 4, "PINHOLE", (*FXY,))
    model, other = (read_colmap_model(tmp_path / p) for p in ("sparse/0", "other/sparse/0"))
    lines = [
        f"1 SIMPLE_RADIAL {SIZE[0]} {SIZE[1]} 80 47 37 -0.15",
        f"2 PINHOLE {SIZE[0]} {SIZE[1]} 80 82 47 37",
    ]
    (tmp_path / "sparse/0/cameras.txt").write_text("\n".join(lines) + "\n")
    text = (tmp_path / "sparse/0/images.txt").read_text()
    (tmp_path / "sparse/0/images.txt").write_text(text.replace(" 1 003.png", " 2 003.png"))
    for folder in ("images", "object_mask"):
        (tmp_path / "other" / folder / "003.png").replace(tmp_path / folder / "003.png")
    scene = load(tmp_path)
    assert len(model.images) == len(other.images) == 4
    assert scene.train[3].camera.fy == 82.0 and scene.train[2].camera.fy == 80.0
    assert "3 of 4 photographs have lens distortion" in scene.notices[0]
    for view in scene.train:
        check_against_the_world(view)


@pytest.mark.parametrize("model", ["PINHOLE", "OPENCV", "FISHEYE"])
@pytest.mark.parametrize("resolution", [1, 2])
def test_key_points_move_with_the_photograph(tmp_path: Path, model: str, resolution: int) -> None:
    intrinsics, numbers, inverse = (FXY, (), None) if model == "PINHOLE" else LENSES[model]
    write_balls(tmp_path, 2, model, (*intrinsics, *numbers), inverse)
    scene = load(tmp_path, resolution=resolution)
    assert scene.model is not None
    lens = scene.model.cameras[1]
    for view, image in zip(scene.train, scene.model.images, strict=True):
        seen = scene.points.positions.double().numpy() @ image.world_to_view()[:3, :3].T
        x, y, z = (seen + image.world_to_view()[:3, 3]).T
        formula = LENS_MODELS[model].formula
        u, v = (x / z, y / z) if formula is None else formula(x / z, y / z, numbers)
        observed = np.stack([lens.fx * u + lens.cx, lens.fy * v + lens.cy], axis=1)
        assert view.picture is not None
        found = view.picture.camera_pixels(observed, SIZE, view.camera)
        expected, _ = view.camera.project(scene.points.positions)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_pixels_outside_the_photograph_are_no_target() -> None:
    from scene.cameras import Camera
    from scene.lenses import Lens

    lens = Lens("SIMPLE_RADIAL", 80, 80, 48, 36, *SIZE, (-0.15,))
    camera = Camera(torch.eye(4, dtype=torch.float64), 80, 80, 60, 36, 120, 72, "a", 0)
    picture = StoredPicture(*SIZE, lens=lens)
    valid = picture.valid(camera)
    assert valid is not None and not valid[:, 0].any() and valid[36, 60]
    ids = picture.label_map(np.full((72, 96), 5, np.int32), camera, ())
    np.testing.assert_array_equal(ids, np.where(valid, 5, -1))
