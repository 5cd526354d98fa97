# SPDX-License-Identifier: Apache-2.0
"""The functional call: splats and a view in, images out."""

from __future__ import annotations

from .backends import implementation
from .checks import check_settings, check_splats
from .types import RasterOutput, RasterSettings, Splats


def rasterize(splats: Splats, settings: RasterSettings, backend: str = "auto") -> RasterOutput:
    """Render Gaussians with any number of feature channels (Eq. 1 of the paper): flat ones as 2DGS
    does, `Ellipsoids` as 3DGS does.

    Differentiable in every tensor of `splats`; the camera and the background get no gradient.
    After backward, `splats.screen_grad.grad` holds the signed densification signal of 2DGS or 3DGS
    and `splats.screen_grad_abs.grad` the sum of its absolute per-pixel terms.

    Args:
        splats: N `Surfels` or `Ellipsoids`, all tensors of one floating type on one device.
        settings: The view. `world_to_view` is [4, 4], x right, y down, z forward.
        backend: "auto" | "cpu" | "cuda" | "reference". "auto" is the native backend of the
            device if it is built, else the reference (one warning).

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    check_settings("rasterize", settings)
    check_splats("rasterize", splats, settings)
    output: RasterOutput = implementation("rasterize", backend, splats.means)(splats, settings)
    return output
