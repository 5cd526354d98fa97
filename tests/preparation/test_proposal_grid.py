# SPDX-License-Identifier: Apache-2.0
"""All masks by a grid of points: a model that segments by colour has one right answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from arguments.masks import GridParams
from iqgs.preparation.proposals.grid import (
    Crop,
    all_masks,
    crops_of,
    grid_points,
    is_cut,
    stability,
)

WIDTH, HEIGHT = 240, 160


class ColorModel:
    """Answers a point with the pixels of its colour, and a second mask that it doubts."""

    def __init__(self, softness: float = 50.0, score: float = 0.9) -> None:
        self.softness, self.score = softness, score
        self.seen: list[tuple[int, int]] = []
        self.asked: list[int] = []

    def look(self, image: np.ndarray) -> None:
        self.image = torch.from_numpy(image[..., 0].astype(np.int64))
        self.seen.append((image.shape[1], image.shape[0]))

    def answer(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(len(points))
        height, width = self.image.shape
        rows = (points[:, 1] * height).long()
        columns = (points[:, 0] * width).long()
        same = self.image[None] == self.image[rows, columns][:, None, None]
        logits = torch.where(same, self.softness, -self.softness)
        doubted = torch.ones_like(logits)
        scores = torch.tensor([self.score, 0.1]).expand(len(points), 2)
        return torch.stack([logits, doubted], dim=1), scores


def picture() -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[30:70, 30:90] = 1
    image[90:140, 120:200] = 2
    image[60:64, 150:154] = 3  # no point of a grid of 8 hits it
    return image


def found_colors(params: GridParams, model: ColorModel | None = None) -> dict[int, int]:
    """Colour -> pixels of its mask; each mask has one colour and all of it."""
    image = picture()
    layers = all_masks(model or ColorModel(), image, params)
    found = {}
    for index in range(len(layers)):
        (color,) = np.unique(image[layers.mask(index), 0])
        assert color not in found
        found[int(color)] = int(layers.areas()[index])
    return found


def test_each_thing_is_found_once() -> None:
    rest = WIDTH * HEIGHT - 40 * 60 - 50 * 80 - 16
    assert found_colors(GridParams(points_per_side=8)) == {0: rest, 1: 2400, 2: 4000}


def test_points_lie_in_the_middles_of_cells_and_are_asked_in_batches() -> None:
    assert grid_points(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    model = ColorModel()
    found_colors(GridParams(points_per_side=5, points_per_batch=10), model)
    assert model.asked == [10, 10, 5] and model.seen == [(WIDTH, HEIGHT)]


def test_crops_find_small_things_and_cut_masks_are_dropped() -> None:
    params = GridParams(points_per_side=12, crop_layers=2)
    model = ColorModel()
    found = found_colors(params, model)
    assert found[3] == 16 and found[1] == 2400 and found[2] == 4000
    assert len(model.seen) == 1 + 4 + 16


def test_crops_cover_the_image_and_overlap() -> None:
    crops = crops_of(WIDTH, HEIGHT, GridParams(crop_layers=2))
    for layer in range(3):
        inside = np.zeros((HEIGHT, WIDTH), int)
        for crop in crops:
            if crop.layer == layer:
                left, top, right, bottom = crop.box
                assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT
                inside[top:bottom, left:right] += 1
        assert inside.min() == 1 and (layer == 0 or inside.max() > 1)


def test_what_the_model_doubts_or_a_threshold_changes_is_dropped() -> None:
    params = GridParams(points_per_side=8)
    assert found_colors(params, ColorModel(score=0.6)) == {}
    assert found_colors(params, ColorModel(softness=0.5)) == {}  # +-1 moves all of it


def test_stability_is_the_iou_of_two_thresholds() -> None:
    logits = torch.tensor([[3.0, 0.5, -0.5, -3.0]])
    assert stability(logits, 1.0) == 1 / 3
    assert stability(torch.full((2, 2), -9.0), 1.0) == 1.0


def test_a_mask_at_a_crops_border_is_cut_but_not_at_the_images() -> None:
    crop, size = Crop((0, 0, 100, 100), 1), (160, 240)
    assert not is_cut(torch.tensor([0.0, 0, 50, 50]), crop, size)
    assert is_cut(torch.tensor([40.0, 40, 100, 60]), crop, size)
    assert is_cut(torch.tensor([40.0, 40, 60, 85]), crop, size)
    assert not is_cut(torch.tensor([40.0, 40, 70, 70]), crop, size)
    whole = Crop((0, 0, 240, 160), 0)
    assert not is_cut(torch.tensor([0.0, 0, 240, 160]), whole, size)
