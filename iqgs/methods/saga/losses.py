# SPDX-License-Identifier: Apache-2.0
"""The contrastive loss of SAGA at several scales (Cen et al., AAAI 2025, and its released code).

P pixels of one view, M masks, S patches (pixels in the same masks), G scales.
"""

from __future__ import annotations

import torch
from torch import Tensor

HARD_POSITIVE, HARD_NEGATIVE = 0.75, 0.5  # cosines beyond which a pair is hard to tell
MOST_WEIGHT = 10.0  # of a pair of pixels in small masks; in the largest 1


def sampled_scales(scales: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Scales [G] at which a step compares: up to `count` of the masks' own [M] (on the CPU), each
    moved a random way towards the next smaller one, one above them all, and the smallest.
    """
    ordered = torch.unique(scales)
    chosen = torch.randperm(len(ordered), generator=generator)[:count]
    below = ordered[(chosen - 1).clamp_min(0)]
    away = torch.rand(len(chosen), generator=generator)
    moved = ordered[chosen] + (below - ordered[chosen]) * away
    return torch.cat([moved, 2 * ordered[-1:], ordered[:1]])


def memberships(members: Tensor, mask_scale: Tensor, scales: Tensor) -> Tensor:
    """Identity vectors V [G, S, M] of the patches at each of scales [G].

    `members` [S, M] bool, `mask_scale` [M]. Masks below the scale count whole; of those at or above
    it only the smallest that a patch lies in.
    """
    order = mask_scale.argsort(stable=True)
    inside = members[:, order]
    large = (mask_scale[order] >= scales[:, None])[:, None]  # [G, 1, M]
    covering = (inside & large).long()
    first = covering.cumsum(dim=-1) - covering == 0
    kept = inside & (~large | first)
    return kept[..., order.argsort()]


def same_identity(vectors: Tensor) -> Tensor:
    """Whether patches share a mask [G, S, S], from their identity vectors [G, S, M]."""
    values = vectors.float()
    return values @ values.transpose(1, 2) > 0


def pair_weights(areas: Tensor) -> Tensor:
    """Weights [P, P] in 1..10 of pairs of pixels whose masks have mean areas [P]: linear in the
    inverse of the product, so that small objects count as much as walls.
    """
    inverse = 1.0 / (areas[:, None] * areas)
    low, high = inverse.min(), inverse.max()
    spread = (high - low).clamp_min(torch.finfo(inverse.dtype).tiny)
    return 1.0 + (MOST_WEIGHT - 1.0) * (inverse - low) / spread


def choose_pairs(same: Tensor, cosine: Tensor, least: int, generator: torch.Generator) -> Tensor:
    """Which pairs [G, P, P] bool count: each once, a < b.

    Those whose answer `same` [G, P, P] depends on the scale, about as many random others (`least`
    at least), and at each scale the hard ones by their `cosine` [G, P, P].
    """
    upper = torch.ones_like(same[0]).triu(diagonal=1)
    changing = (same.any(dim=0) & ~same.all(dim=0)) & upper
    steady = upper & ~changing
    wanted = max(int(changing.sum()), least) / max(int(steady.sum()), 1)
    drawn = torch.rand(upper.shape, generator=generator).to(upper.device) < wanted
    hard = torch.where(same, cosine < HARD_POSITIVE, cosine > HARD_NEGATIVE)
    return ((changing | (steady & drawn)) | hard) & upper


def contrastive_loss(cosine: Tensor, same: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
    """-mean over chosen positives of w cos + mean over chosen negatives of w max(cos, 0).

    `cosine`, `same`, `chosen` [G, P, P]; `weight` [P, P]. A mean of no pairs is 0.
    """
    with torch.no_grad():
        # One factor for each pair, so that the step keeps and differentiates one product only.
        positive, negative = chosen & same, chosen & ~same
        push = (cosine > 0) * negative / negative.sum().clamp_min(1)
        factor = push.sub_(positive / positive.sum().clamp_min(1)).mul_(weight)
    return (factor * cosine).sum()


def norm_loss(features: Tensor) -> Tensor:
    """(1 - mean |F|)^2 of rendered features [P, D]."""
    return (1.0 - features.norm(dim=1).mean()).square()
