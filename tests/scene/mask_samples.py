# SPDX-License-Identifier: Apache-2.0
"""Small masks for the tests of the formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scene.masks import MaskLayers, read_mask_file

RNG = np.random.default_rng(0)
IDS = np.kron(RNG.integers(0, 5, (3, 4)), np.ones((2, 2))).astype(np.uint8)  # [6, 8]
COLORS = np.array([[0, 0, 0], [141, 12, 200], [3, 220, 91], [250, 128, 7], [64, 64, 64]], np.uint8)
CODES = COLORS.astype(int) @ [1 << 16, 1 << 8, 1]


def as_map(path: Path) -> np.ndarray:
    return read_mask_file(path).flat().map()


def two_layers(**columns: Any) -> MaskLayers:
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 1:5, 1:6], masks[1, 2:6, 4:7] = True, True
    return MaskLayers.from_bits((6, 8), np.array([np.packbits(m) for m in masks]), **columns)
