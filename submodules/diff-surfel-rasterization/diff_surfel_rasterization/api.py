# SPDX-License-Identifier: Apache-2.0
"""The functional call: surfels and a view in, images out."""

from __future__ import annotations

from .backends import implementation
from .checks import check_settings, check_surfels
from .types import RasterOutput, RasterSettings, Surfels


def rasterize(surfels: Surfels, settings: RasterSettings, backend: str = "auto") -> RasterOutput:
    """Render flat Gaussians with any number of feature channels (2DGS; Eq. 1 of the paper).

    Differentiable in every tensor of `surfels`; the camera and the background get no gradient.
    After backward, `surfels.screen_grad.grad` holds the signed densification signal of 2DGS and
    `surfels.screen_grad_abs.grad` the sum of its absolute per-pixel terms.

    Args:
        surfels: N splats, all tensors of one floating type on one device.
        settings: The view. `world_to_view` is [4, 4], x right, y down, z forward.
        backend: "auto" | "cpu" | "cuda" | "reference". "auto" is the native backend of the
            device if it is built, else the reference (one warning).

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    check_settings("rasterize", settings)
    check_surfels("rasterize", surfels, settings)
    output: RasterOutput = implementation("rasterize", backend, surfels.means)(surfels, settings)
    return output
