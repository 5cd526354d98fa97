# SPDX-License-Identifier: Apache-2.0
"""EXIF orientations: how stored pixels are turned to stand upright (Exif 2.32, tag 274).

A code 1..8 names a turn; 1 changes nothing, 5 to 8 swap width and height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# (swap rows with columns first, then reverse the rows, then reverse the columns)
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_BACK = {6: 8, 8: 6}  # all others undo themselves
SWAPPING = frozenset({5, 6, 7, 8})


def turned(pixels: NDArray, code: int) -> NDArray:
    """Stored pixels [..., H, W] as a viewer that obeys the code shows them; contiguous."""
    swap, flip_rows, flip_columns = _TURNS[code]
    result = np.swapaxes(pixels, -2, -1) if swap else pixels
    result = result[..., ::-1, :] if flip_rows else result
    result = result[..., ::-1] if flip_columns else result
    return np.ascontiguousarray(result)


def undoing(code: int) -> int:
    """The code that turns upright pixels into those that are stored under `code`."""
    return _BACK.get(code, code)
