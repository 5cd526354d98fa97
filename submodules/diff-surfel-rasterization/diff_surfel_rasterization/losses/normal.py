# SPDX-License-Identifier: Apache-2.0
"""How far rendered normals and those of the depth image disagree, with the gradients at once."""

from __future__ import annotations

from torch import Tensor

from ..backends import choose_backend
from ..types import RasterOutput, RasterSettings
from .checks import check_normal_loss
from .native import normal_loss_native
from .reference import normal_loss_reference


def normal_loss(
    images: RasterOutput,
    settings: RasterSettings,
    depth_ratio: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """Normal consistency of 2DGS (Eq. 14): the mean over all pixels of

        1 - alpha <sum of w n, surface normal>,

    the surface normal being the unit vector along the cross product of the central differences of
    the back-projected depth along columns and rows (Eq. 15); zero on the border of one pixel. The
    depth is that of the images over alpha, or between it and the median depth. Nothing flows
    through the alpha that weighs, but the depth's divisor has its gradient.

    All gradients are made with the value (where one is wanted); the backward pass scales them.
    Sums over pixels end in float64; same bits on every run and, on the CPU, for any number of
    threads.

    Args:
        images: What `rasterize` gave; normal, depth, alpha and, where it has a share, median depth
            are read.
        settings: The view they were rendered with: its focal lengths and principal point.
        depth_ratio: Share of the median depth in the depth of the surface, 0..1.
        backend: As in `rasterize`.

    Returns:
        The loss, a scalar, differentiable once in the images.

    Raises:
        ValueError: an argument has a wrong shape, type, device or value.
        RuntimeError: the requested backend is not built.
    """
    check_normal_loss(images, settings, depth_ratio)
    chosen = choose_backend("normal_loss", backend, images.normal)
    compute = normal_loss_reference if chosen == "reference" else normal_loss_native
    pinhole = (settings.fx, settings.fy, settings.cx, settings.cy)
    return compute(images, pinhole, depth_ratio)
