# SPDX-License-Identifier: Apache-2.0
"""Colours are stable, distinct and put where the numbers say."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from utils.colors import (
    GOLDEN_RATIO,
    SATURATIONS,
    VALUES,
    colorize_depth,
    colorize_features,
    colorize_ids,
    colorize_normals,
    fit_feature_palette,
    id_color,
)


def test_id_color_agrees_with_the_hsv_of_the_standard_library() -> None:
    for number in (1, 2, 7, 99, 256, 300, 65535):
        hsv = (number * GOLDEN_RATIO % 1, SATURATIONS[number % 3], VALUES[number % 4])
        expected = np.array(colorsys.hsv_to_rgb(*hsv)) * 255
        assert np.abs(id_color(np.array(number)) - expected).max() <= 0.51


def test_zero_is_black_and_nothing_else_is_near_it() -> None:
    colors = id_color(np.arange(1000)).astype(int)
    assert (colors[0] == 0).all()
    assert colors[1:].max(axis=1).min() > 150


def test_three_hundred_ids_have_three_hundred_colors() -> None:
    assert len(np.unique(id_color(np.arange(300)), axis=0)) == 300
    first = id_color(np.arange(1, 13)).astype(int)
    distance = np.abs(first[:, None] - first[None]).sum(-1) + 1000 * np.eye(12, dtype=int)
    assert distance.min() > 40  # a dozen objects can be told apart


def test_the_color_of_an_id_does_not_depend_on_the_view() -> None:
    first = colorize_ids(np.array([[0, 5], [9, 400]]))
    second = colorize_ids(np.array([[400, 400, 0, 9]], dtype=np.uint16))
    assert (second[0, 0] == first[1, 1]).all()
    assert (second[0, 3] == first[1, 0]).all()
    assert first.shape == (2, 2, 3) and first.dtype == np.uint8


def test_depth_runs_from_red_to_blue_and_holes_are_black() -> None:
    rgb = colorize_depth(np.array([[0.0, 1.0, 2.0, 8.0]]), 1.0, 8.0).astype(int)
    assert (rgb[0, 0] == 0).all()
    assert rgb[0, 1, 0] > rgb[0, 1, 2]
    assert rgb[0, 3, 2] > rgb[0, 3, 0]
    with pytest.raises(ValueError, match="low < high"):
        colorize_depth(np.ones((1, 1)), 2.0, 2.0)


def test_normals_are_encoded_by_axis_whatever_their_length() -> None:
    normals = np.zeros((3, 1, 3))
    normals[0, 0, 0] = 0.2
    normals[2, 0, 1] = -5.0
    rgb = colorize_normals(normals)
    assert rgb[0, 0].tolist() == [255, 128, 128]
    assert rgb[0, 1].tolist() == [128, 128, 0]
    assert rgb[0, 2].tolist() == [0, 0, 0]


def test_feature_palette_keeps_one_basis_and_separates_the_main_direction() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(500, 16)) * np.linspace(3, 0.1, 16)
    palette = fit_feature_palette(samples)
    assert np.allclose(palette.basis.T @ palette.basis, np.eye(3), atol=1e-9)
    again = fit_feature_palette(samples[::-1])
    assert np.allclose(palette.basis, again.basis, atol=1e-6)
    picture = np.zeros((16, 1, 2))
    picture[:, 0, 0] = palette.mean + 9 * palette.basis[:, 0]
    picture[:, 0, 1] = palette.mean - 9 * palette.basis[:, 0]
    rgb = colorize_features(picture, palette)
    assert rgb[0, 0, 0] == 255 and rgb[0, 1, 0] == 0


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_feature_palette_takes_few_channels_and_constant_data(channels: int) -> None:
    palette = fit_feature_palette(np.ones((4, channels)))
    rgb = colorize_features(np.ones((channels, 2, 2)), palette)
    assert rgb.shape == (2, 2, 3)
    with pytest.raises(ValueError, match="expected samples"):
        fit_feature_palette(np.ones((0, channels)))
