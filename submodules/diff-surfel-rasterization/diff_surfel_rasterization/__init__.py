# SPDX-License-Identifier: Apache-2.0
"""Differentiable rasterizer of flat Gaussians (2DGS) with any number of feature channels."""

from __future__ import annotations

from .api import rasterize
from .backends import available_backends, backend_problem
from .compat import GaussianRasterizationSettings, GaussianRasterizer
from .types import BlendWeights, RasterOutput, RasterSettings, Surfels
from .weights import blend_weights, splat_weights

__all__ = [
    "BlendWeights",
    "GaussianRasterizationSettings",
    "GaussianRasterizer",
    "RasterOutput",
    "RasterSettings",
    "Surfels",
    "available_backends",
    "backend_problem",
    "blend_weights",
    "rasterize",
    "splat_weights",
]
