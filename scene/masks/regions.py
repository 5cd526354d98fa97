# SPDX-License-Identifier: Apache-2.0
"""Connected regions of a label map: the places where a number stands, told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

TOUCHING = np.ones((3, 3), bool)  # pixels that share a corner touch


def connected_regions(label_map: NDArray[np.integer]) -> NDArray[np.int32]:
    """Numbers 1.. of the regions of equal ids > 0 in a map [H, W]; 0 and -1 stay what they are."""
    regions = np.minimum(label_map, 0).astype(np.int32)
    count = 0
    for number, box in enumerate(find_objects(np.maximum(label_map, 0)), 1):
        if box is None:
            continue
        pieces, found = label(label_map[box] == number, TOUCHING)
        regions[box] += np.where(pieces > 0, pieces + count, 0).astype(np.int32)
        count += found
    return regions
