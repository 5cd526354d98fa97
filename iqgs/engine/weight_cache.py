# SPDX-License-Identifier: Apache-2.0
"""Blending weights of frozen splats, kept from step to step.

With geometry frozen w_i(x, y) of a view never changes, so Eq. 1 becomes a sparse product. Memory
is bounded: when all pixels of all views do not fit, every view keeps a random subset of its pixels
as large as the budget allows, and steps sample from that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, splat_weights

# Weights below one grey level are not stored: half of the entries, about 1 % of the weight.
MIN_WEIGHT = 1 / 255
BYTES_PER_ENTRY = 8  # int32 splat + float32 weight


@dataclass(frozen=True)
class CachedView:
    """Pixels of one view with their weights; entry r of `pixels` is row r of `weights`."""

    pixels: Tensor  # [R] int64, y * width + x
    weights: BlendWeights


@dataclass(frozen=True)
class SampledPixels:
    """P sampled pixels, with the splats that touch them renumbered 0..U-1."""

    pixels: Tensor  # [P] int64
    touched: Tensor  # [U] int64
    weights: BlendWeights  # rows P over splats U

    def splat(self, values: Tensor) -> Tensor:
        """Eq. 1 for the sampled pixels: values [U, C] -> [P, C]."""
        return splat_weights(self.weights, None, values)

    @property
    def alpha(self) -> Tensor:
        """Accumulated opacity [P] of the kept weights."""
        ones = torch.ones(len(self.touched), 1, device=self.touched.device)
        return self.splat(ones)[:, 0]


def select_rows(weights: BlendWeights, rows: Tensor) -> BlendWeights:
    """The same weights for the rows [P] only, in that order."""
    start = weights.row_start[rows]
    count = weights.row_start[rows + 1] - start
    row_start = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(count, 0, out=row_start[1:])
    total = int(row_start[-1])
    entries = torch.repeat_interleave(start - row_start[:-1], count, output_size=total)
    entries += torch.arange(total, device=rows.device)
    return BlendWeights(
        row_start=row_start,
        splat=weights.splat[entries],
        weight=weights.weight[entries],
        n_splats=weights.n_splats,
    )


def sample_pixels(view: CachedView, count: int, generator: torch.Generator) -> SampledPixels:
    """`count` pixels of the view without repetition (0: all of them)."""
    total = len(view.pixels)
    if 0 < count < total:
        rows = torch.randperm(total, generator=generator)[:count].to(view.pixels.device)
    else:
        rows = torch.arange(total, device=view.pixels.device)
    chosen = select_rows(view.weights, rows)
    touched, local = torch.unique(chosen.splat, return_inverse=True)
    weights = BlendWeights(
        row_start=chosen.row_start,
        splat=local.to(torch.int32),
        weight=chosen.weight,
        n_splats=len(touched),
    )
    return SampledPixels(pixels=view.pixels[rows], touched=touched.long(), weights=weights)


class WeightCache:
    """Views by index; filled on first use with `compute(index)`, within `budget_bytes`."""

    def __init__(
        self, n_views: int, compute: Callable[[int], BlendWeights], budget_bytes: float, seed: int
    ) -> None:
        self._compute = compute
        self._share = budget_bytes / max(n_views, 1)
        self._budget = budget_bytes
        self._seed = seed
        self._views: dict[int, CachedView] = {}
        self.stored_bytes = 0
        self.subsampled = 0

    def view(self, index: int) -> CachedView:
        """The view's kept pixels; recomputed at every call when the budget is 0."""
        if index in self._views:
            return self._views[index]
        full = self._compute(index)
        view = CachedView(torch.arange(len(full.row_start) - 1, device=full.splat.device), full)
        if self._budget <= 0:
            return view
        view = self._fit(index, view)
        self._views[index] = view
        self.stored_bytes += len(view.weights.splat) * BYTES_PER_ENTRY
        return view

    def _fit(self, index: int, view: CachedView) -> CachedView:
        fraction = self._share / max(len(view.weights.splat) * BYTES_PER_ENTRY, 1)
        if fraction >= 1:
            return view
        self.subsampled += 1
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + index)
        keep = max(1, int(fraction * len(view.pixels)))
        rows = torch.randperm(len(view.pixels), generator=generator)[:keep].sort().values
        rows = rows.to(view.pixels.device)
        return CachedView(view.pixels[rows], select_rows(view.weights, rows))
