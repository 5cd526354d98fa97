# SPDX-License-Identifier: Apache-2.0
"""Colour of a splat from real spherical harmonics up to degree 3."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_SH_DEGREE = 3


def _factor(numerator: float, denominator: float) -> float:
    return math.sqrt(numerator / (denominator * math.pi))


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Values [N, (degree + 1)^2] of the basis at unit directions [N, 3].

    Order and signs are those of the splatting literature (Condon-Shortley phase kept).
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    terms = [torch.full_like(x, _factor(1, 4))]
    if degree >= 1:
        c1 = _factor(3, 4)
        terms += [-c1 * y, c1 * z, -c1 * x]
    if degree >= 2:
        c2 = _factor(15, 4)
        terms += [
            c2 * x * y,
            -c2 * y * z,
            _factor(5, 16) * (2 * zz - xx - yy),
            -c2 * x * z,
            0.5 * c2 * (xx - yy),
        ]
    if degree >= 3:
        outer, inner, middle = _factor(35, 32), _factor(21, 32), _factor(105, 4)
        terms += [
            -outer * y * (3 * xx - yy),
            middle * x * y * z,
            -inner * y * (4 * zz - xx - yy),
            _factor(7, 16) * z * (2 * zz - 3 * xx - 3 * yy),
            -inner * x * (4 * zz - xx - yy),
            0.5 * middle * z * (xx - yy),
            -outer * x * (xx - 3 * yy),
        ]
    return torch.stack(terms, dim=-1)


def sh_colors(sh: Tensor, means: Tensor, camera_center: Tensor, degree: int) -> Tensor:
    """Colours [N, 3] seen from the camera; sh [N, K, 3] with K >= (degree + 1)^2.

    Shifted by one half and clamped at zero from below (no gradient where clamped); the gradient
    of the direction flows into `means`.
    """
    directions = torch.nn.functional.normalize(means - camera_center, dim=-1)
    basis = sh_basis(directions, degree)
    shifted = (basis[..., None] * sh[:, : basis.shape[1]]).sum(dim=1) + 0.5
    return torch.where(shifted > 0, shifted, torch.zeros_like(shifted))
