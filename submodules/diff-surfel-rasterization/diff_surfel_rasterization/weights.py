# SPDX-License-Identifier: Apache-2.0
"""Blending weights of a view as a sparse table, and images from it while geometry is frozen."""

from __future__ import annotations

from torch import Tensor

from .backends import implementation
from .checks import check_settings, check_splatting, check_surfels
from .types import BlendWeights, RasterSettings, Surfels


def blend_weights(
    surfels: Surfels, settings: RasterSettings, min_weight: float = 0.0, backend: str = "auto"
) -> BlendWeights:
    """The weights w_i of Eq. 1, pixel by pixel and front to back, without gradients.

    Args:
        surfels: N splats; colours and features are not looked at beyond their shapes.
        settings: The view.
        min_weight: Contributions below it are left out (0 keeps all).
        backend: As in `rasterize`.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    check_settings("blend_weights", settings)
    check_surfels("blend_weights", surfels, settings)
    if not 0 <= min_weight < 1:
        raise ValueError(f"blend_weights: min_weight must be in [0, 1), got {min_weight}")
    build = implementation("blend_weights", backend, surfels.means)
    weights: BlendWeights = build(surfels, settings, min_weight)
    return weights


def splat_weights(weights: BlendWeights, rows: Tensor | None, values: Tensor) -> Tensor:
    """Blend per-splat values with stored weights.

    Args:
        weights: From `blend_weights`.
        rows: Pixels y * width + x, [P] int64, in any order, repetitions allowed; None = all.
        values: [N, C] floating.

    Returns:
        [P, C], differentiable in `values` (and in nothing else), same bits on every run.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
    """
    check_splatting(weights, rows, values)
    blended: Tensor = implementation("splat_weights", "auto", values)(weights, rows, values)
    return blended
