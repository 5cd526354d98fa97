# SPDX-License-Identifier: Apache-2.0
"""The hierarchical contrastive loss of OmniSeg3D (Ying et al., CVPR 2024, and its released code).

P pixels of one view in Q patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARPNESS, SMOOTHING = 10.0, 10.0  # of the temperatures


def unit_by_norm(features: Tensor) -> Tensor:
    """Features [P, D] over their lengths, which have no gradient: it may change the length too."""
    lengths = features.detach().norm(dim=1, keepdim=True)
    return features / lengths.clamp_min(torch.finfo(features.dtype).tiny)


def patch_means(
    unit: Tensor, patch: Tensor, count: int, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Mean [Q, D] of the features [P, D] in each patch, and its temperature [Q].

    phi = 10 sum |F - mean| / (n ln(n + 10)), kept within `bounds` (the released code's: 0.5, 1) and
    without a gradient; every patch has n >= 1 pixels.
    """
    number = torch.bincount(patch, minlength=count).to(unit.dtype)
    total = torch.zeros(count, unit.shape[1], dtype=unit.dtype, device=unit.device)
    means = total.index_add(0, patch, unit) / number[:, None]
    with torch.no_grad():
        away = (unit - means[patch]).norm(dim=1)
        spread = torch.zeros_like(number).index_add_(0, patch, away)
        temperature = SHARPNESS * spread / (number * (number + SMOOTHING).log())
    return means, temperature.clamp(*bounds)


def hierarchical_loss(
    unit: Tensor, patch: Tensor, level: Tensor, decay: float, bounds: tuple[float, float]
) -> Tensor:
    """Mean over pixels of sum over levels of decay^-level times the level's mean contrast.

    unit [P, D]; patch [P] 0..Q-1; level [Q, Q] as of `levels_of`. The contrast of a pixel with a
    patch is -log softmax of F . mean / phi over all patches; one of a farther level is at least the
    largest of the level before, so that what is nearer in the hierarchy is nearer in the features.
    """
    means, temperature = patch_means(unit, patch, len(level), bounds)
    contrast = -torch.log_softmax(unit @ (means / temperature[:, None]).T, dim=1)
    mine = level[patch]  # [P, Q]
    total, floor = unit.new_zeros(len(unit)), unit.new_zeros(len(unit))
    for number in range(int(level.max()) + 1):
        here = mine == number
        floored = torch.maximum(contrast, floor[:, None])
        size = here.sum(dim=1)
        total = total + decay**-number * (floored * here).sum(dim=1) / size.clamp_min(1)
        largest = torch.where(here, floored, floored.new_zeros(())).amax(dim=1)
        floor = torch.where(size > 0, largest, floor)
    return total.mean()


def length_loss(features: Tensor) -> Tensor:
    """Mean of (|f| - 1)^2 over splats [R, D]."""
    return (features.norm(dim=1) - 1.0).square().mean()
