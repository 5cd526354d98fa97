# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_erosion

from iqgs.evaluation.lerf_mask import binary_scores, resize_nearest
from iqgs.evaluation.scorer import lerf_mask_scores
from utils.errors import DataError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def box(top: int, bottom: int, value: int = 255, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, 10:40] = value
    return mask


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Apple in two views (IoU 1 and 1/2), red cup in one (IoU 1/4); in percent of rows."""
    truth, prediction = tmp_path / "test_mask", tmp_path / "prediction"
    for view in ("0", "1"):
        save(truth / view / "apple.png", box(10, 30))
    save(truth / "1" / "red cup.png", box(10, 50))
    save(prediction / "0" / "apple.png", box(10, 30))
    save(prediction / "1" / "apple.png", box(10, 20))
    save(prediction / "1" / "red cup.png", box(10, 20))
    return truth, prediction


def test_mean_is_over_prompts_not_over_masks(folders: tuple[Path, Path]) -> None:
    scores = lerf_mask_scores(*folders)
    assert scores.prompts["apple"][0] == pytest.approx(0.75)
    assert scores.prompts["red cup"][0] == pytest.approx(0.25)
    assert scores.values["mIoU"] == pytest.approx(0.5)
    assert scores.values["mIoU_masks"] == pytest.approx(1.75 / 3)
    counts = {key: scores.values[key] for key in ("masks", "prompts", "views", "missing", "unused")}
    assert counts == {"masks": 3, "prompts": 2, "views": 2, "missing": 0, "unused": 0}


def test_a_missing_prediction_is_zero_and_its_misspelt_file_is_named(
    folders: tuple[Path, Path],
) -> None:
    truth, prediction = folders
    (prediction / "1" / "red cup.png").rename(prediction / "1" / "red_cup.png")
    scores = lerf_mask_scores(truth, prediction)
    assert scores.prompts["red cup"] == (0.0, 0.0)
    assert scores.values["mIoU"] == pytest.approx(0.75 / 2)
    assert scores.values["missing"] == 1
    assert scores.unused == ("1/red_cup.png",)
    assert [mask.prompt for mask in scores.masks if mask.missing] == ["red cup"]


def test_boundary_iou_equals_the_protocols_erosion() -> None:
    rng = np.random.default_rng(0)
    for shape in ((60, 80), (30, 200)):
        first, second = (
            np.kron(rng.random((3, 5)) < 0.5, np.ones((shape[0] // 3, shape[1] // 5), bool))
            for _ in range(2)
        )
        second[5:20, 3:25] = True
        steps = round(0.02 * (shape[0] ** 2 + shape[1] ** 2) ** 0.5)
        rings = [m & ~binary_erosion(m, np.ones((3, 3)), iterations=steps) for m in (first, second)]
        expected = (rings[0] & rings[1]).sum() / (rings[0] | rings[1]).sum()
        assert binary_scores(first, second)[1] == pytest.approx(expected)
        assert 0 < expected < 1


@pytest.mark.parametrize(("ours", "expected"), [(0, 1.0), (1, 0.0)])
def test_empty_truth_is_not_a_division_by_zero(ours: int, expected: float) -> None:
    prediction = np.zeros((20, 20), bool)
    prediction[4:9, 4:9] = bool(ours)
    assert binary_scores(prediction, np.zeros((20, 20), bool)) == (expected, expected)


def test_zero_and_one_masks_survive_the_threshold_of_128(folders: tuple[Path, Path]) -> None:
    truth, prediction = folders
    expected = lerf_mask_scores(truth, prediction).values
    for path in prediction.glob("*/*.png"):
        save(path, np.asarray(Image.open(path)) // 255)
    assert lerf_mask_scores(truth, prediction).values == expected
    for path in prediction.glob("*/*.png"):
        save(path, np.asarray(Image.open(path)) > 0)  # one bit a pixel
    assert lerf_mask_scores(truth, prediction).values == expected
    for path in prediction.glob("*/*.png"):
        save(path, np.asarray(Image.open(path)).astype(np.uint16) * 65535)
    assert lerf_mask_scores(truth, prediction).values == expected


def test_threshold_is_a_share_of_full_scale(folders: tuple[Path, Path]) -> None:
    truth, prediction = folders
    soft = box(10, 30, value=255)
    soft[20:30, 10:40] = 77  # probability .3
    save(prediction / "0" / "apple.png", soft)
    assert lerf_mask_scores(truth, prediction).prompts["apple"][0] == pytest.approx(0.5)
    assert lerf_mask_scores(truth, prediction, 0.2).prompts["apple"][0] == pytest.approx(0.75)


def test_a_smaller_prediction_is_resized_by_nearest_neighbour(folders: tuple[Path, Path]) -> None:
    truth, prediction = folders
    small = resize_nearest(box(10, 30), (30, 40))
    save(prediction / "0" / "apple.png", small)
    assert lerf_mask_scores(truth, prediction).prompts["apple"][0] == pytest.approx(0.75)
    odd = np.random.default_rng(0).random((7, 11)) < 0.5
    pillow = np.asarray(Image.fromarray(odd).resize((29, 16), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_nearest(odd, (16, 29)), pillow)


def test_unusable_folders_and_files_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    truth, prediction = folders
    with pytest.raises(DataError, match="empty holds no"):
        lerf_mask_scores(tmp_path / "empty", prediction)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        lerf_mask_scores(truth, tmp_path / "nowhere")
    (prediction / "0" / "apple.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError, match=r"apple\.png is not a readable mask"):
        lerf_mask_scores(truth, prediction)
