# SPDX-License-Identifier: Apache-2.0
"""Flat Gaussians (2DGS): discs that a pixel meets at a depth of its own."""

from __future__ import annotations

from diff_surfel_rasterization import Surfels
from gaussian_renderer.primitives.record import Primitive

# Discs lie on surfaces: their normals can be held against those of the depth image.
SURFEL = Primitive("2dgs", Surfels, frozenset({"normal", "distortion"}))
