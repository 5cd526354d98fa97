# SPDX-License-Identifier: Apache-2.0
"""Real spherical harmonics up to degree 3, for colours that change with the viewing direction.

Notation: (x, y, z) is a unit direction; column l*(l+1)+m of the basis is the real harmonic Y_l^m
with the Condon-Shortley sign (-1)^m, the convention in which splat files store their coefficients.
Colour = 0.5 + sum over columns of coefficient * basis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_DEGREE = 3
DC_BASIS = 0.5 / math.sqrt(math.pi)  # Y_0^0, the same in all directions


def rgb_to_sh_dc(rgb: Tensor) -> Tensor:
    """Coefficient of the constant harmonic that shows colour `rgb` in [0, 1]; any shape."""
    return (rgb - 0.5) / DC_BASIS


def sh_dc_to_rgb(sh_dc: Tensor) -> Tensor:
    """Colour of a constant coefficient, not clamped; any shape. Inverse of `rgb_to_sh_dc`."""
    return sh_dc * DC_BASIS + 0.5


def coefficient_count(degree: int) -> int:
    """Number K of coefficients per colour channel at `degree`: (degree + 1)^2."""
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"expected an SH degree in 0..{MAX_DEGREE}, got {degree}")
    return (degree + 1) ** 2


def basis(directions: Tensor, degree: int) -> Tensor:
    """All harmonics up to `degree` at unit `directions` [..., 3]: [..., (degree+1)^2]."""
    x, y, z = directions.unbind(-1)
    columns = [torch.full_like(x, DC_BASIS)]
    if coefficient_count(degree) >= 4:
        c = math.sqrt(3 / (4 * math.pi))
        columns += [-c * y, c * z, -c * x]
    if degree >= 2:
        c = math.sqrt(15 / (4 * math.pi))
        columns += [
            c * x * y,
            -c * y * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
            -c * x * z,
            c / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        columns += _cubic(x, y, z)
    return torch.stack(columns, dim=-1)


def _cubic(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """The seven harmonics of degree 3, m = -3..3."""
    outer, inner = math.sqrt(35 / (32 * math.pi)), math.sqrt(21 / (32 * math.pi))
    middle = math.sqrt(105 / (4 * math.pi))
    return [
        -outer * y * (3 * x * x - y * y),
        middle * x * y * z,
        -inner * y * (5 * z * z - 1),
        math.sqrt(7 / (16 * math.pi)) * z * (5 * z * z - 3),
        -inner * x * (5 * z * z - 1),
        middle / 2 * z * (x * x - y * y),
        -outer * x * (x * x - 3 * y * y),
    ]


def evaluate(sh: Tensor, directions: Tensor, degree: int) -> Tensor:
    """Colour [N, 3] of coefficients `sh` [N, K, 3] seen along `directions` [N, 3], not clamped.

    Uses the first (degree+1)^2 of the K coefficients; directions need not be normalised.
    """
    count = coefficient_count(degree)
    if sh.shape[1] < count:
        raise ValueError(f"degree {degree} needs {count} coefficients, got {sh.shape[1]}")
    unit = torch.nn.functional.normalize(directions, dim=-1)
    return 0.5 + (basis(unit, degree)[..., None] * sh[:, :count]).sum(dim=1)


def rotation_matrix(rotation: Tensor, degree: int) -> Tensor:
    """How coefficients turn with the scene: D [K, K] with basis(R d) = D basis(d), float64.

    `rotation` R [3, 3] is a proper rotation. A colour that showed itself along d shows itself along
    R d once its coefficients c [K] are replaced by D c, because D is orthogonal. Harmonics of one
    degree turn among themselves, so D is block-diagonal; each block solves the equation above at
    more directions than it has columns, which determines it (Y_l span the degree's functions).
    """
    turn = rotation.to(torch.float64)
    index = torch.arange(64, dtype=torch.float64)
    height = (2 * index + 1) / 64 - 1  # 64 directions spread evenly, on a golden-angle spiral
    angle = index * (math.pi * (3 - math.sqrt(5)))
    radius = (1 - height * height).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=1)
    before, after = basis(directions, degree), basis(directions @ turn.T, degree)
    blocks = []
    for band in range(degree + 1):
        columns = slice(band * band, (band + 1) ** 2)
        blocks.append(torch.linalg.lstsq(before[:, columns], after[:, columns]).solution.T)
    return torch.block_diag(*blocks)
