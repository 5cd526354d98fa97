# SPDX-License-Identifier: Apache-2.0
"""Focal and dice loss of queries against pixels of known owners, without storing a logit."""

from __future__ import annotations

from torch import Tensor

from ..backends import choose_backend
from .checks import check_mask_loss
from .native import mask_loss_native
from .reference import mask_loss_reference


def mask_loss(
    queries: Tensor,
    features: Tensor,
    owner: Tensor,
    gamma: float,
    alpha: float | None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Losses of M queries on their own masks over P pixels.

    The logit of query m at pixel p is <queries[m], features[p]>, its mask is owner == m. What
    `queries @ features.T` would hold, [M, P], is never stored: the backward pass makes the logits
    again. Sums over pixels end in float64; same bits on every run and, on the CPU, for any number
    of threads.

    Args:
        queries: [M, D] floating.
        features: [P, D] of the same type, on the same device.
        owner: [P] integers: the row of the query that owns the pixel; any number that is no row,
            such as -1, means none.
        gamma: Focusing exponent of the focal loss, 0 or more.
        alpha: Weight of a query's own pixels in the focal loss, the others have 1 - alpha;
            None for no balance.
        backend: As in `rasterize`.

    Returns:
        focal [M], the mean over pixels (0 where there is none), and dice [M], with one pixel of
        smoothing above and below the line. Both are differentiable once in queries and features.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    check_mask_loss(queries, features, owner, gamma, alpha)
    chosen = choose_backend("mask_loss", backend, queries)
    compute = mask_loss_reference if chosen == "reference" else mask_loss_native
    return compute(queries, features, owner, gamma, alpha)
