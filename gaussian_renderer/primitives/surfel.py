# SPDX-License-Identifier: Apache-2.0
"""Flat Gaussians (2DGS): discs that a pixel meets at a depth of its own."""

from __future__ import annotations

from torch import Tensor

from diff_surfel_rasterization import Surfels
from gaussian_renderer.primitives.record import Primitive


def disc_area(scales: Tensor) -> Tensor:
    """Area [N] of discs of scales [N, 2], in units of pi."""
    return scales.prod(dim=1)


# Discs lie on surfaces: their normals can be held against those of the depth image.
SURFEL = Primitive("2dgs", Surfels, frozenset({"normal", "distortion"}), disc_area)
