# SPDX-License-Identifier: Apache-2.0
"""What a maker of mask proposals is: a photograph in, a pile of masks out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scene.masks import MaskLayers

Photograph = NDArray[np.uint8]  # [H, W, 3] RGB


class Proposer(Protocol):
    """Proposes masks for one photograph after the other."""

    # What the sources of the masks are, as in MaskContent: "view" counts the masks of a photograph,
    # "ids" mean the same object in all of them, which have to come in their order then.
    coding: str

    def propose(self, image: Photograph) -> MaskLayers:
        """Masks of the size of the image [H, W, 3], with scores; they may overlap.

        Raises DataError where the image cannot be used, RunError where the program behind fails.
        """
        ...

    def go_on(self, image: Photograph, label_map: NDArray[np.int32], used: int) -> None:
        """Go on behind a photograph whose ids [H, W] are known; ids up to `used` are taken.

        Only asked of proposers whose coding is "ids".
        """
        ...
