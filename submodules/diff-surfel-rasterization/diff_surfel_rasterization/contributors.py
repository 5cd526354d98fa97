# SPDX-License-Identifier: Apache-2.0
"""Which splats make a pixel: all of them, or those with the largest weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .types import BlendWeights, ContributingSplats, RasterSettings, Splats, TopSplats
from .weights import blend_weights


def contributing_splats(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0, backend: str = "auto"
) -> ContributingSplats:
    """The splats that every pixel of a view shows, front to back.

    Args, Raises: as of `blend_weights`, whose table it is without the weights.
    """
    table = blend_weights(splats, settings, min_weight, backend)
    return ContributingSplats(table.row_start, table.splat, settings.width, settings.height)


def top_splats(
    splats: Splats,
    settings: RasterSettings,
    count: int,
    min_weight: float = 0.0,
    backend: str = "auto",
) -> TopSplats:
    """The `count` splats with the largest weights w_i of Eq. 1 at every pixel, largest first.

    Of equal weights the nearer splat comes first. No gradients; see `splat_weights` for those.

    Args:
        count: K, at least 1. The others are as of `blend_weights`.

    Raises:
        ValueError: an argument has a wrong shape, type or value.
        RuntimeError: the requested backend is not built.
    """
    if count < 1:
        raise ValueError(f"top_splats: count must be at least 1, got {count}")
    table = blend_weights(splats, settings, min_weight, backend)
    splat, weight = largest_of_rows(table, count)
    shape = settings.height, settings.width, count
    return TopSplats(splat.view(shape), weight.view(shape))


def largest_of_rows(table: BlendWeights, count: int) -> tuple[Tensor, Tensor]:
    """Columns [rows, count] int32 (-1 where a row has no more) and weights (there 0)."""
    start, device = table.row_start, table.splat.device
    rows = len(start) - 1
    entries = len(table.splat)
    row = torch.repeat_interleave(
        torch.arange(rows, device=device), start.diff(), output_size=entries
    )
    # By weight, then by row; both keep the order of equals, which is that of depth.
    order = torch.argsort(table.weight, descending=True, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    place = torch.arange(entries, device=device) - start[row]
    kept = place < count
    at, order = row[kept] * count + place[kept], order[kept]
    splat = torch.full((rows * count,), -1, dtype=torch.int32, device=device)
    weight = torch.zeros(rows * count, dtype=table.weight.dtype, device=device)
    splat[at], weight[at] = table.splat[order], table.weight[order]
    return splat.view(rows, count), weight.view(rows, count)
