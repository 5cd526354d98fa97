# SPDX-License-Identifier: Apache-2.0
"""Pictures of where a prediction and the truth differ."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iqgs.engine.reporting.matched import ViewMatch

CELL = 128  # pixels on the longer side of a crop
MARGIN = 0.12  # round an object, of its extent
DIMMED = 0.45  # brightness of what is neither true nor predicted
TINT = 0.6
# Missing, too much, and the outline of the truth, as colour-blind people tell them apart too.
MISSED, EXTRA, OUTLINE = (40, 110, 255), (255, 90, 30), (60, 255, 90)

Pixels = NDArray[np.uint8]


def crop(photograph: Pixels, view: ViewMatch, number: int) -> Pixels:
    """One object cut out of a view: missed pixels blue, pixels too many orange, true outline."""
    true, found = view.truth == number, view.called == number
    rows, columns = (np.flatnonzero((true | found).any(axis)) for axis in (1, 0))
    margin = round(MARGIN * max(np.ptp(rows), np.ptp(columns))) + 3
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    window = np.s_[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    part = photograph[window]
    scale = CELL / max(part.shape[:2])
    size = tuple(max(1, round(n * scale)) for n in part.shape[1::-1])

    def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return cv2.resize(mask[window].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(part, size, interpolation=way).astype(np.float32)
    true, found = grown(true), grown(found)
    picture[~(true | found)] *= DIMMED
    inner = cv2.erode(true.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    picture[true & ~inner] = OUTLINE
    _tint(picture, true & ~found, MISSED)  # over the outline: thin things are all outline
    _tint(picture, found & ~true, EXTRA)
    return picture.astype(np.uint8)


def errors(photograph: Pixels, view: ViewMatch) -> Pixels:
    """A view in gray; blue: objects that are called nothing, orange: all else that is wrong."""
    gray = photograph.mean(axis=2, keepdims=True) * DIMMED
    picture = np.repeat(gray, 3, axis=2).astype(np.float32)
    wrong = view.called != view.truth
    _tint(picture, wrong & (view.called == 0), MISSED)
    _tint(picture, wrong & (view.called != 0), EXTRA)
    return picture.astype(np.uint8)


def _tint(picture: NDArray[np.float32], mask: NDArray[np.bool_], color: tuple[int, ...]) -> None:
    picture[mask] += TINT * (np.array(color, np.float32) - picture[mask])


def shrunk(picture: Pixels, width: int) -> Pixels:
    """A picture at most so wide."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
