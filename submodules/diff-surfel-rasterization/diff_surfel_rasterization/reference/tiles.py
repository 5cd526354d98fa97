# SPDX-License-Identifier: Apache-2.0
"""Which splats can touch which tile: (tile, splat) pairs, front to back inside a tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 16
# Upper bound on pixels x splats of one dense block: a block with its intermediates and their
# gradients stays below half a gigabyte in float64.
MAX_BLOCK_CELLS = 1 << 20


@dataclass(frozen=True)
class Tiling:
    """Pairs sorted by tile, then by depth. Tiles are numbered row by row."""

    splat: Tensor  # [pairs] int64
    counts: tuple[int, ...]  # pairs per tile
    width: int
    height: int

    @property
    def columns(self) -> int:
        """Tiles per row."""
        return -(-self.width // TILE)


def build_tiling(box: Tensor, depth: Tensor, width: int, height: int) -> Tiling:
    """Pairs from boxes [N, 4] (x0, y0, x1, y1 in pixels) and centre depths [N].

    The depth order is stable: equal depths keep the order of the indices.
    """
    columns, rows = -(-width // TILE), -(-height // TILE)
    order = torch.argsort(depth, stable=True)
    limit = torch.tensor([columns, rows], device=box.device)
    size = torch.tensor([width, height], device=box.device)
    low, high = box[order, :2], box[order, 2:]
    inside = (high > 0).all(dim=1) & (low < size).all(dim=1)
    order, low, high = order[inside], low[inside], high[inside]
    first = torch.floor(low / TILE).clamp_min(0).long()
    last = torch.minimum(torch.floor(high.minimum(size.to(high)) / TILE).long(), limit - 1)

    span = last - first + 1
    per_splat = span[:, 0] * span[:, 1]
    owner = torch.repeat_interleave(torch.arange(len(order), device=box.device), per_splat)
    within = torch.arange(len(owner), device=box.device)
    within = within - (torch.cumsum(per_splat, dim=0) - per_splat)[owner]
    tile_x = first[owner, 0] + within % span[owner, 0]
    tile_y = first[owner, 1] + within // span[owner, 0]
    tile = tile_y * columns + tile_x
    by_tile = torch.argsort(tile, stable=True)
    counts = torch.bincount(tile, minlength=columns * rows)
    return Tiling(order[owner[by_tile]], tuple(counts.tolist()), width, height)


def tile_blocks(tiling: Tiling, tile: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels of one tile as (flat index y * width + x [P] int64, x and y [P, 2] int64), cut into
    blocks so that pixels x splats stays bounded."""
    x0, y0 = (tile % tiling.columns) * TILE, (tile // tiling.columns) * TILE
    xs = torch.arange(x0, min(x0 + TILE, tiling.width), device=device)
    ys = torch.arange(y0, min(y0 + TILE, tiling.height), device=device)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    pixels = torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)
    block = max(1, MAX_BLOCK_CELLS // max(1, tiling.counts[tile]))
    for part in pixels.split(block):
        yield part[:, 1] * tiling.width + part[:, 0], part
