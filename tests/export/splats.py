# SPDX-License-Identifier: Apache-2.0
"""A few random splats with objects, for the writers."""

from __future__ import annotations

import numpy as np

from iqgs.export.record import SplatArrays
from scene.frame import SceneFrame

UP = (0.0, 0.0, 1.0)
ORIGIN = (4.5e5, 5.4e6, 120.0)


def some_splats(count: int = 40, scales: int = 2, degree: int = 2) -> SplatArrays:
    """Splats of objects 3 (cup), 300 and 0, in a frame with z up and a far origin."""
    rng = np.random.default_rng(7)
    raw = {
        "means": rng.normal(size=(count, 3)),
        "log_scales": rng.normal(-3, 0.5, size=(count, scales)),
        "quaternions": rng.normal(size=(count, 4)),
        "opacity_logits": rng.normal(size=(count, 1)),
        "sh_dc": rng.normal(size=(count, 1, 3)),
        "sh_rest": 0.3 * rng.normal(size=(count, (degree + 1) ** 2 - 1, 3)),
        "instance": np.zeros((count, 0)),
    }
    labels = rng.choice([3, 300, 0], size=count)
    return SplatArrays(
        {name: array.astype(np.float32) for name, array in raw.items()},
        labels.astype(np.int64),
        rng.uniform(size=count).astype(np.float32),
        SceneFrame(ORIGIN, UP),
        {3: "cup"},
    )
