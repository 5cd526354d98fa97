# SPDX-License-Identifier: Apache-2.0
"""Argument checks whose messages say function, argument, what was expected and what came."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from .quads import QUAD, quad_count
from .reference.color import MAX_SH_DEGREE
from .types import BlendWeights, QuadWeights, RasterSettings, Splats

MOST_LABEL_MAPS = 16  # that one call sums by


def _fail(function: str, argument: str, expected: str, found: object) -> None:
    raise ValueError(f"{function}: {argument} must be {expected}, got {found}")


def check_shape(function: str, argument: str, value: object, shape: tuple[int | str, ...]) -> None:
    """Compare the shape of a tensor with `shape`, whose strings stand for any size.

    Raises:
        ValueError: `value` is no tensor or has another shape.
    """
    if isinstance(value, Tensor) and len(value.shape) == len(shape):
        pairs = zip(shape, value.shape, strict=True)
        if all(size == found or isinstance(size, str) for size, found in pairs):
            return
    expected = "[" + ", ".join(str(size) for size in shape) + "]"  # on the hot path only on failure
    if not isinstance(value, Tensor):
        _fail(function, argument, f"a tensor {expected}", type(value).__name__)
    else:
        _fail(function, argument, expected, list(value.shape))


def check_splats(function: str, splats: Splats, settings: RasterSettings) -> None:
    """Shapes, types and devices of everything a splat carries.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    if not hasattr(splats, "SCALES"):
        _fail(function, "splats", "Surfels or Ellipsoids", type(splats).__name__)
    kind = splats.NAME
    check_shape(function, f"{kind}.means", splats.means, ("N", 3))
    count = len(splats.means)
    check_shape(function, f"{kind}.scales", splats.scales, (count, splats.SCALES))
    check_shape(function, f"{kind}.rotations", splats.rotations, (count, 4))
    check_shape(function, f"{kind}.opacities", splats.opacities, (count, 1))
    if (splats.colors is None) == (splats.sh is None):
        found = "neither" if splats.colors is None else "both"
        _fail(function, f"exactly one of {kind}.colors, {kind}.sh", "given", found)
    if splats.colors is not None:
        check_shape(function, f"{kind}.colors", splats.colors, (count, 3))
    if splats.sh is not None:
        check_shape(function, f"{kind}.sh", splats.sh, (count, "K", 3))
        needed = (settings.sh_degree + 1) ** 2
        if splats.sh.shape[1] < needed:
            expected = f"[{count}, K >= {needed}, 3] for sh_degree {settings.sh_degree}"
            _fail(function, f"{kind}.sh", expected, list(splats.sh.shape))
    if splats.features is not None:
        check_shape(function, f"{kind}.features", splats.features, (count, "C"))
    for name in ("screen_grad", "screen_grad_abs"):
        if getattr(splats, name) is not None:
            check_shape(function, f"{kind}.{name}", getattr(splats, name), (count, 3))
    _check_types(function, splats)


def _check_types(function: str, splats: Splats) -> None:
    means, kind = splats.means, splats.NAME
    if not means.dtype.is_floating_point:
        _fail(function, f"{kind}.means", "of a floating type", means.dtype)
    for field in fields(splats):
        value = getattr(splats, field.name)
        if value is not None and value.dtype != means.dtype:
            _fail(function, f"{kind}.{field.name}", f"{means.dtype} like means", value.dtype)
        if value is not None and value.device != means.device:
            _fail(function, f"{kind}.{field.name}", f"on {means.device} like means", value.device)


def check_settings(function: str, settings: RasterSettings) -> None:
    """Sizes, intrinsics and options of a view.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    if settings.width < 1 or settings.height < 1:
        found = f"{settings.width} x {settings.height}"
        _fail(function, "settings.width x settings.height", "at least 1 x 1", found)
    if not (settings.fx > 0 and settings.fy > 0):
        _fail(function, "settings.fx, settings.fy", "> 0", (settings.fx, settings.fy))
    if not 0 < settings.near < settings.far:
        found_range = (settings.near, settings.far)
        _fail(function, "settings.near, settings.far", "0 < near < far", found_range)
    if not 0 <= settings.sh_degree <= MAX_SH_DEGREE:
        _fail(function, "settings.sh_degree", f"0 to {MAX_SH_DEGREE}", settings.sh_degree)
    if settings.low_pass_depth not in ("exact", "center"):
        _fail(function, "settings.low_pass_depth", "exact or center", settings.low_pass_depth)
    if settings.low_pass_anchor not in ("projected", "aabb"):
        _fail(function, "settings.low_pass_anchor", "projected or aabb", settings.low_pass_anchor)
    check_shape(function, "settings.world_to_view", settings.world_to_view, (4, 4))
    check_shape(function, "settings.background", settings.background, (3,))


def check_weighing(
    function: str, splats: Splats, settings: RasterSettings, min_weight: float
) -> None:
    """Arguments of `blend_weights` and `quad_weights`.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    check_settings(function, settings)
    check_splats(function, splats, settings)
    if not 0 <= min_weight < 1:
        _fail(function, "min_weight", "in [0, 1)", min_weight)


def check_label_sums(
    function: str, splats: Splats, settings: RasterSettings, labels: Tensor, sums: Tensor
) -> None:
    """Label maps [L, H, W] and the sums [N, C] whose columns they name.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    check_shape(function, "labels", labels, ("L", settings.height, settings.width))
    check_shape(function, "sums", sums, (len(splats.means), "C"))
    if not 1 <= len(labels) <= MOST_LABEL_MAPS:
        _fail(function, "labels", f"of 1 to {MOST_LABEL_MAPS} maps", len(labels))
    for name, tensor, kind in (("labels", labels, torch.int32), ("sums", sums, torch.int64)):
        if tensor.dtype != kind:
            _fail(function, name, str(kind), tensor.dtype)
        if tensor.device != splats.means.device:
            _fail(function, name, f"on {splats.means.device} like the splats", tensor.device)
    if not sums.is_contiguous():
        _fail(function, "sums", "contiguous", f"strides {sums.stride()}")
    if int(labels.max()) >= sums.shape[1]:
        _fail(function, "labels", f"below {sums.shape[1]}, the columns", int(labels.max()))


def check_values(function: str, count: int, values: Tensor, device: torch.device) -> None:
    """Values [count, C] of the splats of a table.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    check_shape(function, "values", values, (count, "C"))
    if not values.dtype.is_floating_point:
        _fail(function, "values", "of a floating type", values.dtype)
    if values.device != device:
        _fail(function, "values", f"on {device} like the weights", values.device)


def check_pixels(function: str, argument: str, pixels: Tensor, count: int) -> None:
    """Indices [P] of pixels of an image that has `count`.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    check_shape(function, argument, pixels, ("P",))
    if pixels.dtype != torch.int64:
        _fail(function, argument, "int64", pixels.dtype)
    if len(pixels) > 0 and (int(pixels.min()) < 0 or int(pixels.max()) >= count):
        found = f"{int(pixels.min())} to {int(pixels.max())}"
        _fail(function, argument, f"pixel indices 0 to {count - 1}", found)


def check_splatting(weights: BlendWeights, rows: Tensor | None, values: Tensor) -> None:
    """Arguments of `splat_weights`.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    check_values("splat_weights", weights.n_splats, values, weights.splat.device)
    if rows is not None:
        check_pixels("splat_weights", "rows", rows, len(weights.row_start) - 1)


def check_quads(weights: QuadWeights) -> None:
    """Look through weights that come from elsewhere: kernels follow their indices unasked.

    Raises:
        ValueError: a tensor has a wrong shape or type, or the weights point outside themselves.
    """
    function, entries = "check_quads", len(weights.row)
    quads = quad_count(weights.width, weights.height)
    check_shape(function, "quad_start", weights.quad_start, (quads + 1,))
    check_shape(function, "row", weights.row, (entries,))
    check_shape(function, "weight", weights.weight, (entries, QUAD**2))
    check_shape(function, "extra", weights.extra, ("S",))
    types = (torch.int64, torch.int32, torch.float16, torch.int32)
    for name, tensor, dtype in zip(
        ("quad_start", "row", "weight", "extra"), weights.tensors, types, strict=True
    ):
        if tensor.dtype != dtype or not tensor.is_contiguous():
            _fail(function, name, f"contiguous {dtype}", tensor.dtype)
    start, rows = weights.quad_start, weights.n_splats + len(weights.extra)
    sound = int(start[0]) == 0 and int(start[-1]) == entries and bool((start.diff() >= 0).all())
    for index, end in ((weights.row, rows), (weights.extra, weights.n_splats)):
        sound = sound and (len(index) == 0 or 0 <= int(index.min()) <= int(index.max()) < end)
    if not sound:
        raise ValueError(f"{function}: the weights point outside themselves; they are damaged")
