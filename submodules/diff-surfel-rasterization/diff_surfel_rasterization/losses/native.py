# SPDX-License-Identifier: Apache-2.0
"""The losses of the compiled library, on the device of their tensors; float32 only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..operators import operators, stream_of
from ..types import RasterOutput


class _MaskLoss(torch.autograd.Function):
    """Focal and dice of every query; first derivatives only."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        focal, dice, overlap = operators().mask_loss(
            queries, features, owner, gamma, alpha, stream_of(queries)
        )
        ctx.save_for_backward(queries, features, owner, overlap)
        ctx.options = gamma, alpha
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, focal: Tensor, dice: Tensor) -> tuple[Tensor | None, ...]:
        queries, features, owner, overlap = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        gradients = operators().mask_loss_backward(
            queries, features, owner, *ctx.options, overlap, focal, dice,
            [int(w) for w in wanted], stream_of(queries),
        )  # fmt: skip
        kept = (g if w else None for g, w in zip(gradients, wanted, strict=True))
        return (*kept, None, None, None)


def mask_loss_native(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> tuple[Tensor, Tensor]:
    """Focal [M] and dice [M]; see `mask_loss`."""
    owner = owner.to(torch.int32).contiguous()
    balance = -1.0 if alpha is None else alpha
    focal, dice = _MaskLoss.apply(
        queries.contiguous(), features.contiguous(), owner, gamma, balance
    )
    return focal, dice


class _ImageLoss(torch.autograd.Function):
    """L1 and 1 - SSIM as one tensor [2]; first derivatives only."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, weight: Tensor, learns: bool) -> Tensor:
        losses, total, slope = operators().image_loss(
            image, target, weight, learns, stream_of(image)
        )
        if learns:
            ctx.save_for_backward(image, target, weight, total, slope)
        result: Tensor = losses
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        image, target, weight, total, slope = ctx.saved_tensors
        result: Tensor = operators().image_loss_backward(
            image, target, weight, total, slope, gradient, stream_of(image)
        )
        return result, None, None, None


def image_loss_native(
    image: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """L1 and 1 - SSIM; see `image_loss`."""
    # No number at all stands for weights of one: nothing is read then.
    given = image.new_empty(0) if weight is None else weight.to(torch.float32).contiguous()
    learns = image.requires_grad and torch.is_grad_enabled()
    losses = _ImageLoss.apply(image.contiguous(), target.contiguous(), given, learns)
    l1, dssim = losses.unbind()
    return l1, dssim


class _NormalLoss(torch.autograd.Function):
    """Disagreement of normals as a scalar; first derivatives only."""

    @staticmethod
    def forward(
        ctx: Any, pinhole: tuple[float, ...], ratio: float, learns: bool, *images: Tensor
    ) -> Tensor:
        stream = stream_of(images[0])
        loss, slopes = operators().normal_loss(*images, pinhole, ratio, learns, stream)
        ctx.save_for_backward(slopes)
        ctx.pixels = images[1].numel()
        result: Tensor = loss
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        scaled = slopes * (gradient * (-1.0 / ctx.pixels))
        median = scaled[5:6] if len(scaled) > 5 else None
        parts = (scaled[:3], scaled[3:4], scaled[4:5], median)
        kept = (g if w else None for g, w in zip(parts, ctx.needs_input_grad[3:], strict=True))
        return (None, None, None, *kept)


def normal_loss_native(
    images: RasterOutput, pinhole: tuple[float, float, float, float], depth_ratio: float
) -> Tensor:
    """See `normal_loss`; without a share of the median depth that image is not looked at."""
    median = images.median_depth if depth_ratio else images.depth.new_empty(0)
    used = (images.normal, images.depth, images.alpha, median)
    learns = torch.is_grad_enabled() and any(image.requires_grad for image in used)
    loss: Tensor = _NormalLoss.apply(pinhole, depth_ratio, learns, *used)
    return loss
