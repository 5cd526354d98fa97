# SPDX-License-Identifier: Apache-2.0
"""The equations in plain torch: the judge of the native backends, and their stand-in."""

from .quads import sample_quads_reference, splat_quads_reference
from .rasterize import (
    add_label_weights_reference,
    blend_weights_reference,
    composite_projected,
    quad_weights_reference,
    rasterize_reference,
    splat_weights_reference,
)

__all__ = [
    "add_label_weights_reference",
    "blend_weights_reference",
    "composite_projected",
    "quad_weights_reference",
    "rasterize_reference",
    "sample_quads_reference",
    "splat_quads_reference",
    "splat_weights_reference",
]
