# SPDX-License-Identifier: Apache-2.0
"""Blending weights of a view as a table, and images from it while geometry is frozen.

Two tables: `blend_weights`, pixel by pixel in single precision, of which any rows can be used; and
`quad_weights`, by quads of pixels in half precision, which takes less than half the memory and
renders a whole view several times faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .backends import implementation
from .checks import (
    check_label_sums,
    check_pixels,
    check_splatting,
    check_values,
    check_weighing,
)
from .types import BlendWeights, QuadWeights, RasterSettings, SampledWeights, Splats


def blend_weights(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0, backend: str = "auto"
) -> BlendWeights:
    """The weights w_i of Eq. 1, pixel by pixel and front to back, without gradients.

    Args:
        splats: `Surfels` or `Ellipsoids`; of colours and features only the shapes are looked at.
        settings: The view.
        min_weight: Contributions below it are left out (0 keeps all).
        backend: As in `rasterize`.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    check_weighing("blend_weights", splats, settings, min_weight)
    build = implementation("blend_weights", backend, splats.means)
    weights: BlendWeights = build(splats, settings, min_weight)
    return weights


def add_label_weights(
    splats: Splats,
    settings: RasterSettings,
    labels: Tensor,
    sums: Tensor,
    min_weight: float = 0.0,
    backend: str = "auto",
) -> None:
    """Add to every splat's sums the weights that it has in the pixels of each label (Eq. 1).

    One pass over the view without a table of weights: what a vote of label maps needs.

    Args:
        splats: `Surfels` or `Ellipsoids`; of colours and features only the shapes are looked at.
        settings: The view.
        labels: [L, H, W] int32, L from 1 to 16: the columns of `sums` that each pixel counts for,
            one a map; negative for none.
        sums: [N, C] int64, contiguous, added to. Whole numbers of `LABEL_WEIGHT_PARTS` of a
            weight of one, so that the bits do not depend on the order: the same on every run, for
            any number of threads.
        min_weight: Contributions below it are left out (0 keeps all).
        backend: As in `rasterize`.

    Raises:
        ValueError: an argument has a wrong shape, type, device or value.
        RuntimeError: the requested backend is not built.
    """
    check_weighing("add_label_weights", splats, settings, min_weight)
    check_label_sums("add_label_weights", splats, settings, labels, sums)
    add = implementation("add_label_weights", backend, splats.means)
    add(splats, settings, labels, sums, min_weight)


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


def quad_weights(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0, backend: str = "auto"
) -> QuadWeights:
    """The weights of `blend_weights`, by quads of pixels and rounded to half precision.

    Args:
        splats: `Surfels` or `Ellipsoids`; of colours and features only the shapes are looked at.
        settings: The view.
        min_weight: Contributions below it are left out (0 keeps all).
        backend: As in `rasterize`.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    check_weighing("quad_weights", splats, settings, min_weight)
    build = implementation("quad_weights", backend, splats.means)
    weights: QuadWeights = build(splats, settings, min_weight)
    return weights


def splat_quads(weights: QuadWeights, values: Tensor) -> Tensor:
    """Blend per-splat values at every pixel of the view (Eq. 1 of the paper).

    Differs from the features of `rasterize` by the rounding of the weights (about 5e-4 of each)
    and by what `min_weight` left out.

    Args:
        weights: From `quad_weights`.
        values: [N, C] floating, any C.

    Returns:
        [H W, C] in pixel order, differentiable in `values` (and in nothing else), same bits on
        every run and for any number of threads.

    Raises:
        ValueError: an argument has a wrong shape, type or device.
    """
    check_values("splat_quads", weights.n_splats, values, weights.row.device)
    blended: Tensor = implementation("splat_quads", "auto", values)(weights, values)
    return blended


def sample_quads(weights: QuadWeights, pixels: Tensor) -> SampledWeights:
    """The weights of chosen pixels, over the splats that they touch.

    Args:
        weights: From `quad_weights`.
        pixels: [P] int64, y * width + x, in any order, repetitions allowed.

    Returns:
        A table for `splat_weights` with one row a pixel, and the splats of its columns.

    Raises:
        ValueError: `pixels` has a wrong shape, type, device or value.
    """
    check_pixels("sample_quads", "pixels", pixels, weights.width * weights.height)
    if pixels.device != weights.row.device:
        raise ValueError(
            f"sample_quads: pixels must be on {weights.row.device} like the weights, "
            f"got {pixels.device}"
        )
    floats = weights.row.new_empty(0, dtype=torch.float32)  # what decides on the backend
    look_up = implementation("sample_quads", "auto", floats)
    sampled: SampledWeights = look_up(weights, pixels)
    return sampled
