# SPDX-License-Identifier: Apache-2.0
"""Differentiable rasterizer of flat and 3D Gaussians (2DGS, 3DGS) with any number of channels."""

from __future__ import annotations

from .api import rasterize
from .backends import available_backends, backend_problem
from .checks import MOST_LABEL_MAPS, check_quads
from .compat import GaussianRasterizationSettings, GaussianRasterizer
from .constants import LABEL_WEIGHT_PARTS
from .contributors import contributing_splats, top_splats
from .quads import drop_unseen, keep_pixels, keep_quads
from .types import (
    BlendWeights,
    ContributingSplats,
    Ellipsoids,
    QuadWeights,
    RasterOutput,
    RasterSettings,
    SampledWeights,
    Splats,
    Surfels,
    TopSplats,
)
from .weights import (
    add_label_weights,
    blend_weights,
    quad_weights,
    sample_quads,
    splat_quads,
    splat_weights,
)

__version__ = "0.1.0"

__all__ = [
    "LABEL_WEIGHT_PARTS",
    "MOST_LABEL_MAPS",
    "BlendWeights",
    "ContributingSplats",
    "Ellipsoids",
    "GaussianRasterizationSettings",
    "GaussianRasterizer",
    "QuadWeights",
    "RasterOutput",
    "RasterSettings",
    "SampledWeights",
    "Splats",
    "Surfels",
    "TopSplats",
    "add_label_weights",
    "available_backends",
    "backend_problem",
    "blend_weights",
    "check_quads",
    "contributing_splats",
    "drop_unseen",
    "keep_pixels",
    "keep_quads",
    "quad_weights",
    "rasterize",
    "sample_quads",
    "splat_quads",
    "splat_weights",
    "top_splats",
]
