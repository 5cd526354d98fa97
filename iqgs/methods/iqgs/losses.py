# SPDX-License-Identifier: Apache-2.0
"""The loss functions of the paper, pure and float32-stable.

`mask_losses` is what is trained (Eq. 11-12): a kernel that stores no logit. `focal_loss` and
`dice_loss` say the same on logits [M, P] in three lines each; the tests hold the two together.
`logits` are raw scores [M, P], `masks` bool [M, P]: M queries with their objects, P pixels or
sampled points. The pairwise forms take masks [T, P] of T objects and give every (query, object)
pair; they share their parts with the elementwise forms, so that the cost of a match (Eq. 9) cannot
drift from the loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diff_surfel_rasterization.losses import DICE_SMOOTHING, mask_loss

OVERLAP_EPSILON = 1e-6  # against 0 / 0 only; probabilities are rarely this small


def mask_losses(
    queries: Tensor, features: Tensor, owner: Tensor, gamma: float, alpha: float | None
) -> tuple[Tensor, Tensor]:
    """Focal (Eq. 11) and dice (Eq. 12) of each query on its own mask, as they are trained.

    Query i has the scores S_i = <queries[i], features> and the mask M_i = (owner == i). With
    p = sigmoid(S_i) and p_t = p on the mask, 1 - p off it, over the P pixels:

        focal_i = mean( -alpha_t (1 - p_t)^gamma log p_t )
        dice_i = 1 - (2 sum(p M_i) + s) / (sum(p) + sum(M_i) + s)

    alpha_t is alpha on the mask, 1 - alpha off it, or 1 for alpha None; s is `DICE_SMOOTHING`.
    The sums over the matched queries and their divisor stand in the criterion. A fused kernel on
    both devices makes the scores in registers, forward and again backward, so that no [M, P] is
    stored. Equal to `focal_loss` and `dice_loss` on S.

    Args:
        queries: [M, D] mask embeddings.
        features: [P, D] of the pixels, of the same type, on the same device.
        owner: [P] int32 or int64, the row of the query that owns the pixel; -1 for none.
        gamma: Focusing exponent, 0 or more.
        alpha: Weight of a query's own pixels, None for no balance.

    Returns:
        focal [M] and dice [M], differentiable once in queries and features.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
    """
    return mask_loss(queries, features, owner, gamma, alpha)


def _focal_of_wrong(wrong: Tensor, gamma: float) -> Tensor:
    """Focal loss from the logit of the wrong answer: p_wrong^gamma * -log(1 - p_wrong)."""
    loss = F.softplus(wrong)
    if gamma == 0.0:
        return loss
    chance = torch.sigmoid(wrong)
    return loss * (chance.square() if gamma == 2.0 else chance.pow(gamma))


def _check_alpha(alpha: float | None) -> None:
    if alpha is not None and not 0.0 <= alpha <= 1.0:
        raise ValueError(f"expected focal alpha in 0..1 or None (no balance), got {alpha!r}")


def focal_loss(logits: Tensor, masks: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """Focal loss of each query on its own mask, mean over pixels: [M, P] -> [M] (Eq. 11)."""
    _check_alpha(alpha)
    loss = _focal_of_wrong(torch.where(masks, -logits, logits), gamma)
    if alpha is not None:
        loss = loss * torch.where(masks, alpha, 1.0 - alpha)
    return loss.mean(-1)


def pairwise_focal(logits: Tensor, masks: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """Focal loss of every query on every mask: [Q, P], [T, P] -> [Q, T] (Eq. 9)."""
    _check_alpha(alpha)
    on_object = _focal_of_wrong(-logits, gamma)
    off_object = _focal_of_wrong(logits, gamma)
    if alpha is not None:
        on_object, off_object = on_object * alpha, off_object * (1.0 - alpha)
    difference = (on_object - off_object) @ masks.to(logits.dtype).T
    return (difference + off_object.sum(-1, keepdim=True)) / logits.shape[-1]


def _dice_of_sums(overlap: Tensor, total: Tensor) -> Tensor:
    return 1.0 - (2.0 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft dice of each query on its own mask: [M, P] -> [M] (Eq. 12)."""
    probability = torch.sigmoid(logits)
    mask = masks.to(probability.dtype)
    return _dice_of_sums((probability * mask).sum(-1), probability.sum(-1) + mask.sum(-1))


def pairwise_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft dice of every query on every mask: [Q, P], [T, P] -> [Q, T] (Eq. 9)."""
    probability = torch.sigmoid(logits)
    mask = masks.to(probability.dtype)
    total = probability.sum(-1)[:, None] + mask.sum(-1)[None, :]
    return _dice_of_sums(probability @ mask.T, total)


def neighbor_loss(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance between the E sides of neighbour pairs, mean over pairs (Eq. 13).

    [E, C], [E, C] -> scalar. For features the squares are summed over C, as the equation says;
    the caller divides by the number of queries where C counts queries.
    """
    if first.shape[0] == 0:
        return first.sum() * 0.0
    return (first - second).square().sum(-1).mean()


def overlap_loss(projected: Tensor, rendered: Tensor) -> Tensor:
    """Dice between two soft masks with squares below the line: [P, M] twice -> [M] (Eq. 14).

    The squares make it 0 exactly where both sides agree, also where both are uncertain; with plain
    sums two equal masks of probability p would still cost 1 - p. Pixels come first, as `splat`
    gives them.
    """
    overlap = (projected * rendered).sum(0)
    total = projected.square().sum(0) + rendered.square().sum(0)
    return 1.0 - (2.0 * overlap + OVERLAP_EPSILON) / (total + OVERLAP_EPSILON)
