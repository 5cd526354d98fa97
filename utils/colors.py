# SPDX-License-Identifier: Apache-2.0
"""Numbers to pictures: ids, depths, normals and features as RGB that stays the same over views."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GOLDEN_RATIO = (5**0.5 - 1) / 2  # multiples of it spread evenly on the circle of hues
SATURATIONS = np.array([0.95, 0.6, 0.8])  # neighbours on the circle also differ in these two
VALUES = np.array([1.0, 0.95, 0.65, 0.8])

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating]


def id_color(ids: NDArray[np.integer]) -> Bytes:
    """RGB [..., 3] of ids of any shape. 0 is black; an id has one colour in every view and run."""
    numbers = np.asarray(ids, dtype=np.int64)
    hue = numbers * GOLDEN_RATIO % 1.0
    saturation = SATURATIONS[numbers % len(SATURATIONS)]
    value = VALUES[numbers % len(VALUES)]
    # HSV to RGB: each channel falls linearly with the distance of the hue from its own
    sector = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    share = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    rgb = value[..., None] * (1 - saturation[..., None] * share)
    rgb[numbers <= 0] = 0
    return (rgb * 255 + 0.5).astype(np.uint8)


def colorize_ids(label_map: NDArray[np.integer]) -> Bytes:
    """Label map [H, W] -> RGB [H, W, 3]."""
    present, position = np.unique(label_map, return_inverse=True)
    return id_color(present)[position.reshape(label_map.shape)]


def colorize_depth(depth: Floats, low: float, high: float) -> Bytes:
    """Depth [H, W] -> RGB [H, W, 3], red near `low`, blue near `high`; depths <= 0 are black.

    Give the same range for all views of a scene, or their colours cannot be compared.
    """
    if not high > low:
        raise ValueError(f"expected low < high, got {low} and {high}")
    # even steps in 1/z: near things get most of the colours, and far ones do not wash out
    near, far = max(low, 1e-6), max(high, 2e-6)
    inverse = 1 / np.maximum(depth, 1e-6)
    scaled = np.clip((inverse - 1 / far) / (1 / near - 1 / far), 0, 1)
    bgr = cv2.applyColorMap((scaled * 255 + 0.5).astype(np.uint8), cv2.COLORMAP_TURBO)
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    rgb[~(depth > 0)] = 0
    return rgb


def colorize_normals(normals: Floats) -> Bytes:
    """Normals [3, H, W] (any length, world frame) -> RGB [H, W, 3]; no normal is black."""
    length = np.linalg.norm(normals, axis=0)
    unit = normals / np.maximum(length, 1e-8)
    rgb = ((unit + 1) * 127.5 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    rgb[length < 1e-3] = 0
    return np.ascontiguousarray(rgb)


@dataclass(frozen=True)
class FeaturePalette:
    """A linear map from C feature channels to RGB, fitted once and used for every view."""

    mean: Floats  # [C]
    basis: Floats  # [C, 3] principal directions; zero columns where C < 3
    low: Floats  # [3] projections shown as 0
    high: Floats  # [3] projections shown as 255


def fit_feature_palette(samples: Floats) -> FeaturePalette:
    """Principal components of samples [P, C]. Signs are fixed, so equal data give equal colours."""
    data = np.asarray(samples, dtype=np.float64)
    if data.ndim != 2 or not len(data) or not data.shape[1]:
        raise ValueError(f"expected samples [P, C] with P, C >= 1, got {data.shape}")
    mean = data.mean(axis=0)
    _, vectors = np.linalg.eigh((data - mean).T @ (data - mean))
    top = vectors[:, ::-1][:, :3]
    top = top * np.sign(np.take_along_axis(top, np.abs(top).argmax(axis=0)[None], axis=0))
    basis = np.zeros((data.shape[1], 3))
    basis[:, : top.shape[1]] = top
    projected = (data - mean) @ basis
    low, high = np.percentile(projected, [1, 99], axis=0)  # stray splats do not set the range
    return FeaturePalette(mean, basis, low, np.maximum(high, low + 1e-6))


def colorize_features(features: Floats, palette: FeaturePalette) -> Bytes:
    """Features [C, H, W] -> RGB [H, W, 3]."""
    channels, height, width = features.shape
    flat = features.reshape(channels, -1).T.astype(np.float64)
    projected = (flat - palette.mean) @ palette.basis
    scaled = np.clip((projected - palette.low) / (palette.high - palette.low), 0, 1)
    return (scaled * 255 + 0.5).astype(np.uint8).reshape(height, width, 3)
