# SPDX-License-Identifier: Apache-2.0
"""Lens formulas against pycolmap, OpenCV and closed forms; the pinholes that they become."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scene.lenses import LENS_MODELS, Lens, Pinhole, sampled_ids, sampled_image, valid_pixels
from utils.errors import DataError

COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "SIMPLE_RADIAL": (-0.12,),
    "RADIAL": (-0.1, 0.02),
    "OPENCV": (-0.2, 0.05, 0.003, -0.002),
    "OPENCV_FISHEYE": (0.05, -0.02, 0.003, -0.001),
    "FULL_OPENCV": (-0.1, 0.02, 0.003, -0.002, 0.01, 0.05, -0.01, 0.002),
    "FOV": (0.9,),
    "SIMPLE_RADIAL_FISHEYE": (0.03,),
    "RADIAL_FISHEYE": (0.03, -0.01),
    "THIN_PRISM_FISHEYE": (0.05, -0.02, 0.003, -0.002, 0.003, -0.001, 0.004, -0.005),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        *(0.05, -0.02, 0.01, 0.003, -0.002, 0.001),
        *(0.003, -0.002, 0.004, 0.001, -0.005, 0.002),
    ),
    "SIMPLE_DIVISION": (-0.2,),
    "DIVISION": (-0.2,),
    "SIMPLE_FISHEYE": (),
    "FISHEYE": (),
    "EUCM": (0.6, 1.1),
}
WIDTH, HEIGHT = 1000, 750


def lens(model: str, focal: float = 800.0) -> Lens:
    return Lens(model, focal, focal * 1.02, 507.0, 380.0, WIDTH, HEIGHT, COEFFICIENTS[model])


def rays(count: int = 400, reach: float = 0.8) -> tuple[NDArray, NDArray]:
    x, y = np.random.default_rng(0).uniform(-reach, reach, (2, count))
    return x, y


def test_every_model_with_distortion_is_tried() -> None:
    assert {name for name, model in LENS_MODELS.items() if model.formula} == set(COEFFICIENTS)


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_agrees_with_pycolmap(model: str) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pip install pycolmap runs this test")
    ours = lens(model)
    intrinsics = (ours.fx, ours.cx, ours.cy)
    if LENS_MODELS[model].intrinsics == 4:
        intrinsics = (ours.fx, ours.fy, ours.cx, ours.cy)
    else:
        ours = Lens(model, ours.fx, ours.fx, ours.cx, ours.cy, WIDTH, HEIGHT, ours.coefficients)
    theirs = pycolmap.Camera(
        model=model, width=WIDTH, height=HEIGHT, params=[*intrinsics, *ours.coefficients]
    )
    assert int(pycolmap.CameraModelId.__members__[model]) == LENS_MODELS[model].number
    assert theirs.params_info.replace(" ", "") == ",".join(LENS_MODELS[model].parameters)
    x, y = rays()
    expected = theirs.img_from_cam(np.stack([x, y, np.ones_like(x)], axis=1))
    np.testing.assert_allclose(np.stack(ours.project(x, y), axis=1), expected, atol=1e-9)


@pytest.mark.parametrize("model", ["SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"])
def test_agrees_with_opencv(model: str) -> None:
    ours = lens(model)
    k = ours.coefficients
    numbers = {1: (k[0], 0, 0, 0), 2: (*k, 0, 0), 4: k, 8: k}[len(k)]
    matrix = np.array([[ours.fx, 0, ours.cx], [0, ours.fy, ours.cy], [0, 0, 1]])
    x, y = rays()
    points = np.stack([x, y, np.ones_like(x)], axis=1)
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(numbers))
    np.testing.assert_allclose(np.stack(ours.project(x, y), axis=1), expected[:, 0], atol=1e-9)


def test_agrees_with_opencvs_fisheye() -> None:
    ours = lens("OPENCV_FISHEYE")
    matrix = np.array([[ours.fx, 0, ours.cx], [0, ours.fy, ours.cy], [0, 0, 1]])
    x, y = rays()
    bent = cv2.fisheye.distortPoints(
        np.stack([x, y], axis=1)[:, None], matrix, np.array(ours.coefficients)
    )
    np.testing.assert_allclose(np.stack(ours.project(x, y), axis=1), bent[:, 0], atol=1e-9)


def test_closed_inverses() -> None:
    # Where a model has one: from the lens's coordinates (one unit is a focal length) to the ray's.
    inverses = {
        "FOV": lambda r, k: np.tan(r * k[0]) / (2 * math.tan(k[0] / 2)),
        "DIVISION": lambda r, k: r / (1 + k[0] * r * r),
        "FISHEYE": lambda r, k: np.tan(r),
        "EUCM": lambda r, k: (
            r
            * (k[0] * np.sqrt(1 - (2 * k[0] - 1) * k[1] * r * r) + 1 - k[0])
            / (1 - k[1] * k[0] ** 2 * r * r)
        ),
    }
    for model, inverse in inverses.items():
        ours = lens(model)
        radius = np.linspace(0.01, 0.6, 30)
        x, y = ours.unproject(ours.cx + ours.fx * radius, np.full(30, ours.cy))
        np.testing.assert_allclose(x, inverse(radius, ours.coefficients), rtol=1e-9, err_msg=model)
        np.testing.assert_allclose(y, 0, atol=1e-12)


@pytest.mark.parametrize("model", COEFFICIENTS)
@pytest.mark.parametrize("focal", [800.0, 400.0])
def test_unproject_undoes_project(model: str, focal: float) -> None:
    ours = lens(model, focal)
    u, v = np.random.default_rng(1).uniform(0, 1, (2, 500)) * [[WIDTH], [HEIGHT]]
    back = ours.project(*ours.unproject(u, v))
    known = ~np.isnan(back[0])
    assert known.mean() > 0.75  # a bent lens of 400 cannot see all corners of its own picture
    np.testing.assert_allclose(np.stack(back)[:, known], np.stack([u, v])[:, known], atol=1e-6)


@pytest.mark.parametrize("model", COEFFICIENTS)
@pytest.mark.parametrize("focal", [800.0, 400.0, 250.0])
def test_the_pinhole_keeps_the_focal_length_and_has_no_empty_rim(model: str, focal: float) -> None:
    ours = lens(model, focal)
    pinhole = ours.pinhole()
    assert (pinhole.fx, pinhole.fy) == (ours.fx, ours.fy)
    valid = valid_pixels(ours, pinhole)
    assert valid is None or (~valid).mean() < 0.01
    assert pinhole.width <= 2 * math.tan(math.radians(60)) * ours.fx + 1


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_the_pinhole_is_not_cut_more_than_it_must(model: str) -> None:
    ours = lens(model)
    fits = ours.pinhole()
    wider = Pinhole(
        *(fits.fx, fits.fy, fits.cx + 0.01 * fits.width, fits.cy + 0.01 * fits.height),
        *(int(fits.width * 1.02), int(fits.height * 1.02)),
    )
    assert valid_pixels(ours, wider) is not None


def test_rays_beyond_the_turning_point_are_not_seen() -> None:
    # r (1 - 0.12 r^2) turns back at r = 1 / sqrt(0.36); a ray at r = 2.7 would show the middle.
    ours = lens("SIMPLE_RADIAL")
    turn = 1 / math.sqrt(3 * 0.12)
    u, _ = ours.project(np.array([0.99 * turn, 1.01 * turn, 2.7]), np.zeros(3))
    assert np.isfinite(u).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("model", "numbers", "bends"),
    [
        ("OPENCV", (0.0, 0.0, 0.0, 0.0), False),
        ("FULL_OPENCV", (0.0,) * 8, False),
        ("SIMPLE_RADIAL", (1e-9,), False),
        ("SIMPLE_RADIAL", (1e-3,), True),
        ("FOV", (0.0,), False),
        ("DIVISION", (0.0,), False),
        ("EUCM", (0.0, 3.0), False),
        ("PINHOLE", (), False),
        ("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0), True),
        ("FISHEYE", (), True),
    ],
)
def test_a_lens_that_moves_no_pixel_is_a_pinhole(
    model: str, numbers: tuple[float, ...], bends: bool
) -> None:
    assert Lens(model, 800, 800, 500, 375, WIDTH, HEIGHT, numbers).bends() == bends


@pytest.mark.parametrize("numbers", [(-80.0,), (1e8,), (float("1e300"),)])
def test_damaged_numbers_are_named(numbers: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="SIMPLE_RADIAL camera of 1000x750.*calibration"):
        Lens("SIMPLE_RADIAL", 800, 800, 500, 375, WIDTH, HEIGHT, numbers).pinhole()


def test_photographs_of_any_size_give_the_same_pinhole() -> None:
    # A linear ramp is reproduced by linear interpolation, so the expected value is exact.
    ours = lens("OPENCV")
    pinhole = Pinhole(200.0, 204.0, 130.0, 95.0, 260, 190)
    column, row = np.meshgrid(np.arange(260) + 0.5, np.arange(190) + 0.5)
    u, v = ours.project((column - 130.0) / 200.0, (row - 95.0) / 204.0)
    for scale in (1.0, 0.5, 2.0):
        width, height = int(WIDTH * scale), int(HEIGHT * scale)
        across, down = np.meshgrid(
            (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        )
        ramp = torch.from_numpy(np.stack([across, down]).astype(np.float32))
        found = sampled_image(ramp, ours, pinhole).numpy()
        np.testing.assert_allclose(found, [u / WIDTH, v / HEIGHT], atol=2e-3)
        ids = (across * 10).astype(np.int32) + 1
        near = sampled_ids(ids, ours, pinhole)
        assert (near == (u / WIDTH * 10).astype(np.int32) + 1).mean() > 0.99
    assert sampled_ids(np.full((75, 100), 7, np.int32), ours, pinhole).min() == 7


def test_labels_are_those_of_most_of_the_pixel() -> None:
    """Against a slow count of what covers each pixel: 15 x 15 samples of the world itself."""
    ours = lens("OPENCV")
    pinhole = Pinhole(200.0, 204.0, 130.0, 95.0, 260, 190)

    def world(u: NDArray, v: NDArray) -> NDArray:  # stripes of 7 and of 11 pixels, obliquely
        return ((u + 0.3 * v) // 7 % 3 + 3 * ((v - 0.2 * u) // 11 % 2)).astype(np.int32) + 1

    column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    found = sampled_ids(world(column, row), ours, pinhole)
    cover = np.zeros((7, pinhole.height, pinhole.width))
    steps = (np.arange(15) + 0.5) / 15
    for down in steps:
        for across in steps:
            x = (np.arange(pinhole.width) + across - pinhole.cx) / pinhole.fx
            y = (np.arange(pinhole.height) + down - pinhole.cy) / pinhole.fy
            there = world(*ours.project(*np.meshgrid(x, y)))
            for number in range(1, 7):
                cover[number] += there == number
    most = cover.argmax(axis=0)
    # The photograph is four times as fine: a pixel holds 16 labels, of which five are looked at.
    sure = cover.max(axis=0) > 0.8 * 225
    assert sure.mean() > 0.3 and (found == most)[sure].mean() > 0.99
    assert (found == most).mean() > 0.8
    assert set(np.unique(found)) <= set(range(1, 7))


def test_pixels_that_the_lens_does_not_show_are_told() -> None:
    ours = lens("SIMPLE_RADIAL")
    pinhole = Pinhole(800.0, 816.0, 700.0, 380.0, 1400, 750)  # wider than the photograph
    valid = valid_pixels(ours, pinhole)
    assert valid is not None and 0.05 < (~valid).mean() < 0.5
    ids = sampled_ids(np.full((HEIGHT, WIDTH), 3, np.int32), ours, pinhole)
    np.testing.assert_array_equal(ids, np.where(valid, 3, -1))
    image = sampled_image(torch.ones(3, HEIGHT, WIDTH), ours, pinhole)
    np.testing.assert_allclose(image[1].numpy(), valid, atol=1e-5)
    half = Pinhole(400.0, 408.0, 350.0, 190.0, 700, 375)  # with pixels that are seen in part
    valid = valid_pixels(ours, half)
    image = sampled_image(torch.ones(3, HEIGHT, WIDTH), ours, half)
    assert valid is not None
    np.testing.assert_allclose(image[1].numpy(), valid, atol=1e-5)
