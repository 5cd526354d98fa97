# SPDX-License-Identifier: Apache-2.0
"""A contact sheet of associated masks: every object in a row, cut out of some of its views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.colors import id_color

CELL = 96  # pixels on a side
LABEL = 150  # pixels for the text of a row
MARGIN = 0.15  # around an object, of its extent
DIMMED = 0.35  # brightness of what is not the object
GAP = 2

Pixels = NDArray[np.uint8]
Cuts = dict[int, list[Pixels]]


def cut_out(photograph: Pixels, labels: NDArray[np.integer], number: int) -> Pixels:
    """The object [CELL, CELL, 3] of one view: it bright, with its outline, all else dimmed."""
    mask = labels == number
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    middle = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    half = max(rows[-1] - rows[0], columns[-1] - columns[0], 8) * (0.5 + MARGIN)
    place = (np.arange(CELL) + 0.5) / CELL * 2 * half - half
    y = np.rint(middle[0] + place).astype(int)
    x = np.rint(middle[1] + place).astype(int)
    outside = np.logical_or.outer(
        (y < 0) | (y >= labels.shape[0]), (x < 0) | (x >= labels.shape[1])
    )
    at = np.ix_(y.clip(0, labels.shape[0] - 1), x.clip(0, labels.shape[1] - 1))
    picture, inside = photograph[at].astype(np.float32), mask[at]
    picture[~inside] *= DIMMED
    inner = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    picture[inside & ~inner] = id_color(np.array([number]))[0]
    picture[outside] = 0
    return picture.astype(np.uint8)


def object_sheet(cuts: Cuts, objects: Sequence[Mapping[str, Any]], columns: int) -> Pixels:
    """Rows of objects: number, name, views and confidence, then `columns` cut-outs at most."""
    shown = [row for row in objects if cuts.get(row["id"])]
    step = CELL + GAP
    sheet = np.full((max(len(shown), 1) * step, LABEL + columns * step, 3), 24, np.uint8)
    for index, row in enumerate(shown):
        top = index * step
        lines = (
            f"{row['id']} {row.get('name', '')}".strip(),
            f"{row['views']} views",
            f"confidence {row['confidence']:.2f}",
            f"{len(row['conflicts'])} conflicts" if row["conflicts"] else "",
        )
        color = tuple(int(c) for c in id_color(np.array([row["id"]]))[0])
        sheet[top : top + CELL, :6] = color
        for place, text in enumerate(lines):
            at = (12, top + 20 + 22 * place)
            cv2.putText(
                sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA
            )
        for place, cut in enumerate(cuts[row["id"]][:columns]):
            left = LABEL + place * step
            sheet[top : top + CELL, left : left + CELL] = cut
    return sheet
