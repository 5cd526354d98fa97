# SPDX-License-Identifier: Apache-2.0
"""The equations in plain torch: the judge of the native backends, and their stand-in."""

from .mask_loss import mask_loss_reference
from .quads import sample_quads_reference, splat_quads_reference
from .rasterize import (
    blend_weights_reference,
    composite_projected,
    quad_weights_reference,
    rasterize_reference,
    splat_weights_reference,
)

__all__ = [
    "blend_weights_reference",
    "composite_projected",
    "mask_loss_reference",
    "quad_weights_reference",
    "rasterize_reference",
    "sample_quads_reference",
    "splat_quads_reference",
    "splat_weights_reference",
]
