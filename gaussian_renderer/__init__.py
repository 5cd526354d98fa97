# SPDX-License-Identifier: Apache-2.0
"""(camera, Gaussians) -> pixels."""

from gaussian_renderer.lens import MIN_WEIGHT, Lens, Renderer
from gaussian_renderer.output import RenderOutput
from gaussian_renderer.primitives import PRIMITIVES, Primitive, primitive_of
from gaussian_renderer.renderer import (
    add_view_labels,
    raster_settings,
    render,
    splat,
    view_quads,
    view_weights,
)
from gaussian_renderer.surface import back_project, depth_to_normal

__all__ = [
    "MIN_WEIGHT",
    "PRIMITIVES",
    "Lens",
    "Primitive",
    "Renderer",
    "RenderOutput",
    "add_view_labels",
    "back_project",
    "depth_to_normal",
    "primitive_of",
    "raster_settings",
    "render",
    "splat",
    "view_quads",
    "view_weights",
]
