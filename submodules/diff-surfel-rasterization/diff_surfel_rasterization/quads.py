# SPDX-License-Identifier: Apache-2.0
"""Tables of blending weights by quads of pixels: their layout, and how they are made and thinned.

In plain torch, on any device; the layout is that of `csrc/common/quads.h`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .types import BlendWeights, QuadWeights

QUAD = 2  # pixels along the side
BAND_QUADS = 16  # rows of quads of a band


def quad_count(width: int, height: int) -> int:
    """Quads of an image."""
    return -(-width // QUAD) * -(-height // QUAD)


def quad_index(x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """The quad that holds the pixel in column x and row y of an image."""
    column, row = x // QUAD, y // QUAD
    above = row - row % BAND_QUADS
    high = (-(-height // QUAD) - above).clamp_max(BAND_QUADS)
    return above * -(-width // QUAD) + column * high + row % BAND_QUADS


def quad_pixels(width: int, height: int, device: torch.device) -> Tensor:
    """The pixels y * width + x of every quad, [Q, 4] int64; -1 outside the image."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    count = quad_count(width, height)
    pixels = torch.full((count, QUAD**2), -1, dtype=torch.int64, device=device)
    pixels[quad_index(x, y, width, height), x % QUAD + QUAD * (y % QUAD)] = y * width + x
    return pixels


def quads_of_entries(weights: QuadWeights) -> Tensor:
    """The quad of each entry, [E] int64."""
    start = weights.quad_start
    return torch.repeat_interleave(
        torch.arange(len(start) - 1, device=start.device),
        start.diff(),
        output_size=len(weights.row),
    )


def order_by_splat(weights: QuadWeights) -> tuple[Tensor, Tensor]:
    """See `QuadWeights.by_splat`."""
    splat, entry = torch.sort(weights.splat, stable=True)
    numbers = torch.arange(weights.n_splats + 1, dtype=torch.int32, device=splat.device)
    corners = quad_pixels(weights.width, weights.height, splat.device)[:, 0]
    pixel = corners[quads_of_entries(weights)[entry]]
    return torch.searchsorted(splat, numbers), torch.stack([entry, pixel], 1).to(torch.int32)


def starts_of(index: Tensor, count: int) -> Tensor:
    """Where each of `count` groups starts, [count + 1] int64, when sorted by `index` [E]."""
    start = torch.zeros(count + 1, dtype=torch.int64, device=index.device)
    torch.cumsum(torch.bincount(index, minlength=count), 0, out=start[1:])
    return start


def quads_from_rows(rows: BlendWeights, depth: Tensor, width: int, height: int) -> QuadWeights:
    """The weights of all pixels of a view, `rows`, by quads; `depth` [N] orders the splats."""
    device, count = rows.splat.device, rows.n_splats
    pixel = torch.repeat_interleave(
        torch.arange(width * height, device=device),
        rows.row_start.diff(),
        output_size=len(rows.splat),
    )
    x, y = pixel % width, pixel // width
    quad = quad_index(x, y, width, height)
    order = torch.argsort(depth, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=device)
    key, entry = torch.unique(quad * count + rank[rows.splat.long()], return_inverse=True)
    weight = torch.zeros(len(key), QUAD**2, dtype=torch.float16, device=device)
    weight[entry, x % QUAD + QUAD * (y % QUAD)] = rows.weight.to(torch.float16)
    quad = key // max(count, 1)
    band = quad // (BAND_QUADS * -(-width // QUAD))
    row, extra = _assign_rows(order[key % max(count, 1)], band, count)
    start = starts_of(quad, quad_count(width, height))
    return QuadWeights(start, row, weight, extra, width, height, count)


def _assign_rows(splat: Tensor, band: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows [E] of entries and the splats [S] of the further rows.

    A splat's first even band and its first odd band use its own row, each later band another.
    """
    bands = int(band.max()) + 1 if len(band) else 1
    place = (2 * splat + band % 2) * bands + band
    pair, inverse = torch.unique(place, return_inverse=True)
    group = pair // bands  # of one splat, and either even bands or odd ones
    further = torch.zeros(len(pair), dtype=torch.bool, device=pair.device)
    further[1:] = group[1:] == group[:-1]
    row = torch.where(further, count + torch.cumsum(further, 0) - 1, group // 2)
    return row[inverse].to(torch.int32), (group[further] // 2).to(torch.int32)


def keep_pixels(weights: QuadWeights, pixels: Tensor) -> QuadWeights:
    """The same view with the weights of `pixels` [R] (y * width + x) alone; others become 0."""
    device = weights.row.device
    # One place behind the last pixel stands for those outside the image.
    kept = torch.zeros(weights.width * weights.height + 1, dtype=torch.bool, device=device)
    kept[pixels] = True
    quad = quads_of_entries(weights)
    weight = weights.weight * kept[quad_pixels(weights.width, weights.height, device)][quad]
    entries = (weight != 0).any(dim=1).nonzero()[:, 0]
    return QuadWeights(
        quad_start=starts_of(quad[entries], len(weights.quad_start) - 1),
        row=weights.row[entries],
        weight=weight[entries],
        extra=weights.extra,
        width=weights.width,
        height=weights.height,
        n_splats=weights.n_splats,
    )


def keep_quads(weights: QuadWeights, quads: Tensor) -> tuple[QuadWeights, Tensor]:
    """The same view with the entries of `quads` [K] alone, and their pixels [R] ascending."""
    start = weights.quad_start
    chosen = quads.sort().values
    sizes = start.diff()[chosen]
    ends = sizes.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    shift = torch.repeat_interleave(start[chosen] - ends + sizes, sizes, output_size=total)
    entries = shift + torch.arange(total, device=start.device)
    kept_sizes = torch.zeros_like(start)
    kept_sizes[chosen + 1] = sizes
    pixels = quad_pixels(weights.width, weights.height, start.device)[chosen].reshape(-1)
    kept = QuadWeights(
        quad_start=kept_sizes.cumsum(0),
        row=weights.row[entries],
        weight=weights.weight[entries],
        extra=weights.extra,
        width=weights.width,
        height=weights.height,
        n_splats=weights.n_splats,
    )
    return kept, pixels[pixels >= 0].sort().values


def drop_unseen(weights: QuadWeights) -> tuple[QuadWeights, Tensor]:
    """The same weights over the U splats that have any, and which splats these are, [U] int64."""
    count, extra = weights.n_splats, weights.extra.long()
    used = torch.zeros(count + len(extra), dtype=torch.bool, device=extra.device)
    used[weights.row.long()] = True
    further = used[count:].clone()
    used[extra[further]] = True
    seen = used[:count].nonzero()[:, 0]
    row = torch.cumsum(used, 0, dtype=torch.int32) - 1
    return (
        QuadWeights(
            quad_start=weights.quad_start,
            row=row[weights.row.long()],
            weight=weights.weight,
            extra=row[extra[further]],
            width=weights.width,
            height=weights.height,
            n_splats=len(seen),
        ),
        seen,
    )
