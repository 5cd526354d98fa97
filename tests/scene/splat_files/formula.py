# SPDX-License-Identifier: Apache-2.0
"""Splats by a formula, the same on every machine."""

from __future__ import annotations

import numpy as np


def discs(count: int = 270, degree: int = 1, scales: int = 2, instance: int = 0) -> dict:
    """Raw parameters as in `GaussianModel.params`; every array varies from row to row."""
    i = np.arange(count, dtype=np.float64)[:, None]

    def waves(width: int, base: float) -> np.ndarray:
        return np.sin(i * (base + 0.37 * np.arange(width)) + base)

    rest = (degree + 1) ** 2 - 1
    raw = {
        "means": waves(3, 1.3) * [4.0, 3.0, 2.0],
        "log_scales": waves(scales, 0.7) - 3.0,
        "quaternions": waves(4, 2.1) + 0.05,
        "opacity_logits": 25.0 * waves(1, 0.9),
        "sh_dc": waves(3, 1.7)[:, None, :],
        "sh_rest": 0.4 * waves(3 * rest, 0.3).reshape(count, rest, 3),
        "instance": waves(instance, 0.5),
    }
    return {name: array.astype(np.float32) for name, array in raw.items()}
