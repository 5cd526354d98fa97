# SPDX-License-Identifier: Apache-2.0
"""Raw parameters of splats as other formats want them: in their natural units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.spherical_harmonics import DC_BASIS

Floats = NDArray[Any]


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


def unit_quaternions(quaternions: Floats) -> NDArray[np.float32]:
    """Quaternions [N, 4] of any positive length, of length one in single precision."""
    wide = quaternions.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def constant_colors(sh_dc: Floats) -> Floats:
    """The colours [N, 3] in 0..1 (sRGB, as photographs are) of constant coefficients [N, 3]."""
    return np.clip(sh_dc * DC_BASIS + 0.5, 0, 1)


def srgb_to_linear(encoded: Floats) -> Floats:
    """Decoded sRGB values in 0..1 (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
