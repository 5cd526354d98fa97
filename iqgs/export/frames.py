# SPDX-License-Identifier: Apache-2.0
"""The frames of files for other programs: right-handed, upright, and how to get back from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scene.frame import SceneFrame
from scene.splat_files.columns import Arrays
from scene.splat_files.frames import upright_rotation
from scene.splat_files.similarity import transformed

# Viewers of splats take -y of a PLY for up, glTF takes +y: half a turn about x.
_FLIP = np.diag([1.0, -1.0, -1.0])
RULE = "position in the scene's files = transposed rotation * position + origin"


@dataclass(frozen=True, eq=False)
class UprightFrame:
    """Coordinates x' = rotation @ x of a file, where x are those of the run."""

    rotation: NDArray[np.float64]  # [3, 3]
    origin: tuple[float, float, float]  # of the run in the scene's files
    up_known: bool  # else the photographs' own up (-y) was taken for it
    up: str = "+Y"

    @classmethod
    def of(cls, frame: SceneFrame) -> UprightFrame:
        """+Y up, for glTF and OpenUSD."""
        return cls(_FLIP @ upright_rotation(frame), frame.origin, frame.up is not None)

    @classmethod
    def of_viewers(cls, frame: SceneFrame) -> UprightFrame:
        """-Y up, as viewers of splats take a PLY."""
        return cls(upright_rotation(frame), frame.origin, frame.up is not None, "-Y")

    def turned(self, raw: Arrays) -> Arrays:
        """Splats of the run in this frame, colours along turned directions included."""
        return transformed(raw, self.rotation)

    def points(self, positions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Positions [N, 3] of the run in this frame."""
        return positions.astype(np.float64) @ self.rotation.T

    def described(self) -> dict[str, Any]:
        """What a file says about its coordinates, as plain JSON."""
        return {
            "up": self.up,
            "up_known": self.up_known,
            "unit": "that of the scene's files",
            "scale": 1.0,
            "rotation": [float(v) for v in self.rotation.ravel()],
            "origin": list(self.origin),
            "rule": RULE,
        }
