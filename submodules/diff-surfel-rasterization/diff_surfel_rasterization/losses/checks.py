# SPDX-License-Identifier: Apache-2.0
"""Argument checks whose messages say function, argument, what was expected and what came."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import check_shape
from ..types import RasterOutput, RasterSettings


def _require(holds: bool, argument: str, expected: str, found: object) -> None:
    if not holds:
        raise ValueError(f"{argument} must be {expected}, got {found}")


def check_mask_loss(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> None:
    """Arguments of `mask_loss`.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    name = "mask_loss"
    check_shape(name, "queries", queries, ("M", "D"))
    check_shape(name, "features", features, ("P", queries.shape[1]))
    check_shape(name, "owner", owner, (len(features),))
    dtype, device = queries.dtype, queries.device
    _require(dtype.is_floating_point, f"{name}: queries", "of a floating type", dtype)
    _require(features.dtype == dtype, f"{name}: features", f"{dtype} like queries", features.dtype)
    integers = (torch.int32, torch.int64)
    _require(owner.dtype in integers, f"{name}: owner", "int32 or int64", owner.dtype)
    for argument, value in (("features", features), ("owner", owner)):
        fits = value.device == device
        _require(fits, f"{name}: {argument}", f"on {device} like queries", value.device)
    _require(0 <= gamma < math.inf, f"{name}: gamma", "0 or positive", gamma)
    sound = alpha is None or 0 <= alpha <= 1
    _require(sound, f"{name}: alpha", "in 0..1 or None for no balance", alpha)


def check_image_pair(function: str, image: Tensor, target: Tensor) -> None:
    """Two images [C, H, W] of one type on one device.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    check_shape(function, "image", image, ("C", "H", "W"))
    check_shape(function, "target", target, tuple(image.shape))
    dtype, device = image.dtype, image.device
    _require(dtype.is_floating_point, f"{function}: image", "of a floating type", dtype)
    _require(target.dtype == dtype, f"{function}: target", f"{dtype} like image", target.dtype)
    some = image.numel() > 0
    _require(some, f"{function}: image", "of at least one pixel", list(image.shape))
    fits = target.device == device
    _require(fits, f"{function}: target", f"on {device} like image", target.device)


def check_image_loss(image: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Arguments of `image_loss`.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    name = "image_loss"
    check_image_pair(name, image, target)
    wanted = target.requires_grad
    _require(not wanted, f"{name}: target", "without requires_grad (only the image learns)", wanted)
    if weight is None:
        return
    check_shape(name, "weight", weight, tuple(image.shape[1:]))
    kind = weight.dtype
    fits = kind == torch.bool or kind.is_floating_point
    _require(fits, f"{name}: weight", "bool or of a floating type", kind)
    _require(not weight.requires_grad, f"{name}: weight", "without requires_grad", True)
    here = weight.device == image.device
    _require(here, f"{name}: weight", f"on {image.device} like image", weight.device)


def check_normal_loss(images: RasterOutput, settings: RasterSettings, depth_ratio: float) -> None:
    """Arguments of `normal_loss`.

    Raises:
        ValueError: with one sentence about the first thing that does not fit.
    """
    name = "normal_loss"
    height, width = settings.height, settings.width
    normal = images.normal
    check_shape(name, "normal", normal, (3, height, width))
    _require(normal.dtype.is_floating_point, f"{name}: normal", "of a floating type", normal.dtype)
    for argument in ("depth", "alpha", "median_depth"):
        value = getattr(images, argument)
        check_shape(name, argument, value, (1, height, width))
        fits = value.dtype == normal.dtype and value.device == normal.device
        expected = f"{normal.dtype} on {normal.device} like normal"
        _require(fits, f"{name}: {argument}", expected, f"{value.dtype} on {value.device}")
    _require(0 <= depth_ratio <= 1, f"{name}: depth_ratio", "in 0..1", depth_ratio)
    focal = settings.fx > 0 and settings.fy > 0
    _require(focal, f"{name}: fx, fy", "positive", (settings.fx, settings.fy))
