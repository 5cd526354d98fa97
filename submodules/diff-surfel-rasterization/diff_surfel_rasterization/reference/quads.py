# SPDX-License-Identifier: Apache-2.0
"""Products with weights by quads, and chosen pixels of them, in plain torch on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..quads import QUAD, quad_index, quad_pixels, quads_of_entries
from ..types import BlendWeights, QuadWeights, SampledWeights

# Entries handled at once: bounds the temporaries, [entries, 4, C].
ENTRIES_PER_CHUNK = 1 << 18


class _SplatQuads(torch.autograd.Function):
    """Quads [Q, 4, C] from values [N, C] by chunks of entries; deterministic both ways."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, quad: Tensor, splat: Tensor, weight: Tensor, quads: int
    ) -> Tensor:
        ctx.save_for_backward(quad, splat, weight)
        ctx.n_splats = len(values)
        result = values.new_zeros(quads, QUAD**2, values.shape[1])
        for q, s, w in _chunks(quad, splat, weight):
            result.index_add_(0, q, values[s][:, None, :] * w[:, :, None].to(values))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        quad, splat, weight = ctx.saved_tensors
        result = gradient.new_zeros(ctx.n_splats, gradient.shape[2])
        for q, s, w in _chunks(quad, splat, weight):
            # Not 0 * gradient, which is no number where that is none.
            reached = torch.where(w[:, :, None] > 0, gradient[q], 0.0)
            result.index_add_(0, s, (reached * w[:, :, None].to(gradient)).sum(1))
        return result, None, None, None, None


def _chunks(*columns: Tensor) -> zip[tuple[Tensor, ...]]:
    return zip(*(column.split(ENTRIES_PER_CHUNK) for column in columns), strict=True)


def splat_quads_reference(weights: QuadWeights, values: Tensor) -> Tensor:
    """Image [H W, C] of per-splat values [N, C]; any floating type."""
    pixels = quad_pixels(weights.width, weights.height, values.device).reshape(-1)
    by_quad: Tensor = _SplatQuads.apply(
        values,
        quads_of_entries(weights),
        weights.splat.long(),
        weights.weight,
        len(weights.quad_start) - 1,
    )
    inside = pixels >= 0
    order = torch.argsort(pixels[inside])
    return by_quad.flatten(0, 1)[inside.nonzero()[:, 0][order]]


def sample_quads_reference(weights: QuadWeights, pixels: Tensor) -> SampledWeights:
    """The weights of `pixels` [P] over the splats that they touch."""
    device, start = weights.row.device, weights.quad_start
    x, y = pixels % weights.width, pixels // weights.width
    corner = x % QUAD + QUAD * (y % QUAD)
    quad = quad_index(x, y, weights.width, weights.height)
    count = start[quad + 1] - start[quad]
    row = torch.repeat_interleave(torch.arange(len(pixels), device=device), count)
    before = torch.cumsum(count, 0) - count
    entry = (start[quad] - before)[row] + torch.arange(len(row), device=device)
    weight = weights.weight[entry, corner[row]]
    kept = weight > 0
    row, entry = row[kept], entry[kept]
    row_start = torch.zeros(len(pixels) + 1, dtype=torch.int64, device=device)
    torch.cumsum(torch.bincount(row, minlength=len(pixels)), 0, out=row_start[1:])
    splat = weights.row[entry].long()
    if len(weights.extra):
        further = (splat - weights.n_splats).clamp_min(0)
        splat = torch.where(splat < weights.n_splats, splat, weights.extra[further].long())
    touched, local = torch.unique(splat, return_inverse=True)
    rows = BlendWeights(row_start, local.to(torch.int32), weight[kept].float(), len(touched))
    return SampledWeights(rows, touched)
