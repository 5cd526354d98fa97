# SPDX-License-Identifier: Apache-2.0
"""A contact sheet: the masks of some photographs over them, on one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from scene.masks import MaskLayers
from utils.colors import id_color

TILE = 480  # pixels of the longer side
SHADE = 0.5  # share of a mask's colour over the photograph
GAP = 4  # pixels between tiles
Pixels = NDArray[np.uint8]


def masks_over(photograph: Pixels, layers: MaskLayers) -> Pixels:
    """A photograph [H, W, 3] with all its masks in colours, the smaller above, outlines in white.

    A source has one colour in all photographs.
    """
    layers = layers.resized(photograph.shape[1], photograph.shape[0])
    colors = id_color(layers.source)
    shaded = photograph.astype(np.float32)
    outlines = np.zeros(photograph.shape[:2], bool)
    for index in np.argsort(-layers.areas(), kind="stable"):
        mask = layers.mask(int(index))
        shaded[mask] = (1 - SHADE) * photograph[mask] + SHADE * colors[index]
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        outlines = (outlines & ~mask) | (mask & ~inner)
    pixels = np.asarray(shaded + 0.5, np.uint8)
    pixels[outlines] = 255
    return pixels


def tile_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the tile of a photograph; small ones are not enlarged."""
    scale = min(1.0, TILE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def contact_sheet(tiles: Sequence[Pixels]) -> Pixels:
    """Tiles [h, w, 3] of any sizes in rows, about square, on black."""
    columns = math.ceil(math.sqrt(len(tiles)))
    wide = max(tile.shape[1] for tile in tiles) + GAP
    high = max(tile.shape[0] for tile in tiles) + GAP
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * high - GAP, columns * wide - GAP, 3), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * high, index % columns * wide
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet
