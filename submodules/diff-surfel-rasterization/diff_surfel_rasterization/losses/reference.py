# SPDX-License-Identifier: Apache-2.0
"""The losses in plain torch: any floating type, any device, autograd as their backward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..types import RasterOutput
from .similarity import ssim_map

# One pixel: keeps the ratio bounded for objects of few pixels. csrc/losses/mask_math.h has it too.
DICE_SMOOTHING = 1.0
LEAST_NORMAL = 1e-12  # of a cross product: shorter ones are no normals
# Logits at a time. With more than one chunk these are made again in the backward pass.
CELLS_PER_CHUNK = 1 << 20


def mask_loss_reference(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> tuple[Tensor, Tensor]:
    """Focal [M] and dice [M]; see `mask_loss`. Memory grows with M + P, not with M P."""
    count, pixels = len(queries), len(features)
    size = max(1, CELLS_PER_CHUNK // max(count, 1))
    sums = queries.new_zeros(4, count, dtype=torch.float64)
    for rows, owners in zip(features.split(size), owner.split(size), strict=True):
        if pixels <= size:
            sums = sums + _chunk_sums(queries, rows, owners, gamma, alpha)
        else:
            sums = sums + checkpoint(
                _chunk_sums, queries, rows, owners, gamma, alpha,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
    loss, overlap, claimed, area = sums
    dice = 1.0 - (2.0 * overlap + DICE_SMOOTHING) / (claimed + area + DICE_SMOOTHING)
    return (loss / max(pixels, 1)).to(queries.dtype), dice.to(queries.dtype)


def _chunk_sums(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> Tensor:
    """Sums over the chunk's pixels [4, M]: focal loss, own probability, probability, own pixels."""
    logits = queries @ features.T
    own = owner[None, :] == torch.arange(len(queries), device=owner.device)[:, None]
    wrong = torch.where(own, -logits, logits)
    loss = F.softplus(wrong)
    if gamma == 2.0:
        loss = loss * torch.sigmoid(wrong).square()
    elif gamma != 0.0:
        # Not a power of the probability: its derivative at an underflow is infinite.
        loss = loss * torch.exp(gamma * F.logsigmoid(wrong))
    if alpha is not None:
        loss = loss * torch.where(own, alpha, 1.0 - alpha)
    probability = torch.sigmoid(logits)
    parts = (loss, probability * own, probability, own)
    return torch.stack([part.sum(-1, dtype=torch.float64) for part in parts])


def image_loss_reference(
    image: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """L1 and 1 - SSIM; see `image_loss`."""
    if weight is None:
        return (image - target).abs().mean(), 1.0 - ssim_map(image, target).mean()
    inside = weight > 0
    share = torch.where(inside, weight.to(image.dtype), 0.0)
    # A weight times a number outside would let an infinite one through.
    image, target = (torch.where(inside, side, 0.0) for side in (image, target))
    divisor = (len(image) * share.sum()).clamp_min(torch.finfo(image.dtype).tiny)
    l1 = (share * (image - target).abs()).sum() / divisor
    dssim = (share * (1.0 - ssim_map(image, target))).sum() / divisor
    return l1, dssim


def normal_loss_reference(
    images: RasterOutput, pinhole: tuple[float, float, float, float], depth_ratio: float
) -> Tensor:
    """Disagreement of normals; see `normal_loss`."""
    alpha = images.alpha
    # That of single precision for every type: a threshold of the images, not of the arithmetic.
    depth = images.depth / alpha.clamp_min(torch.finfo(torch.float32).eps)
    if depth_ratio:
        depth = (1 - depth_ratio) * depth + depth_ratio * images.median_depth
    surface = surface_normals(depth, pinhole) * alpha.detach()
    return (1 - (images.normal * surface).sum(0)).mean()


def surface_normals(depth: Tensor, pinhole: tuple[float, float, float, float]) -> Tensor:
    """Unit normals [3, H, W] of a depth image [1, H, W] in the camera's frame, facing the camera;
    zero on the border."""
    fx, fy, cx, cy = pinhole
    height, width = depth.shape[-2:]
    if min(height, width) < 3:
        return (0 * depth).expand(3, height, width)
    x = ((torch.arange(width).to(depth) + 0.5 - cx) / fx).expand(height, width)
    y = ((torch.arange(height).to(depth) + 0.5 - cy) / fy)[:, None].expand(height, width)
    points = torch.stack([x, y, torch.ones_like(x)]) * depth
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    right = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    crossed = torch.linalg.cross(down, right, dim=0)
    square = (crossed * crossed).sum(dim=0, keepdim=True)
    return F.pad(crossed * square.clamp_min(LEAST_NORMAL**2).rsqrt(), (1, 1, 1, 1))
