# SPDX-License-Identifier: Apache-2.0
"""The whole rasterizer in plain torch: any floating type, any device, autograd as its backward.

It is the judge of the native backends and stands in for them where no compiler exists. Pixels
are rendered tile by tile; when gradients are wanted and the picture is large, each block is
recomputed in the backward pass, so memory does not grow with the number of pixels.

What it defines for all backends:

* Pixel i is sampled at i + 0.5. A splat contributes where alpha >= 1/255.
* A ray and a surfel do not meet when (centre depth) / (hit depth) <= PARALLEL_RATIO, nor nearer
  than `near`; then the splat is skipped at that pixel, the low-pass disc included. With
  low_pass_depth="center" the disc needs no intersection.
* Surfels seen within EDGE_ON_COSINE of edge-on, and splats with their centre at or before `near`,
  are dropped.
* screen_grad of surfels receives (dL/dM_x[2] M_w[2] W/2, dL/dM_y[2] M_w[2] H/2, 0) of the pixels
  where rho3 <= rho2: neither the low-pass disc, nor its depth, nor its anchor take part.
* An ellipsoid is seen as EWA splatting does: the Gaussian of its linearised image, SCREEN_DILATION
  added, at the depth of its centre. Its normal is its shortest axis. screen_grad receives
  (dL/dx W/2, dL/dy H/2, 0) of where its centre appears, its shape on screen held fixed.
* The gradient of a pixel reaches the splats that contributed to it and no other, also where it is
  infinite or no number; that of a pixel without contributions reaches nothing.
* Camera and background get no gradient.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..constants import LABEL_WEIGHT_PARTS
from ..quads import quads_from_rows
from ..types import (
    BlendWeights,
    Ellipsoids,
    QuadWeights,
    RasterOutput,
    RasterSettings,
    Splats,
)
from .blending import MAP_COLUMNS, Blended, blend, composite
from .ellipsoids import ELLIPSOIDS
from .projection import BlendOptions, Bounds, Kind, Meet, Projected
from .surfels import SURFELS
from .tiles import Tiling, build_tiling, tile_blocks

__all__ = [
    "add_label_weights_reference",
    "blend_weights_reference",
    "composite_projected",
    "quad_weights_reference",
    "rasterize_reference",
    "splat_weights_reference",
]

# Above this many pixel-splat cells the blocks are recomputed in backward instead of kept.
KEEP_CELLS = 1 << 21
# Entries of a weight table handled at once by `splat_weights_reference`.
ENTRIES_PER_CHUNK = 1 << 20


def kind_of(splats: Splats) -> Kind:
    """How splats of this kind are seen."""
    return ELLIPSOIDS if isinstance(splats, Ellipsoids) else SURFELS


def rasterize_reference(splats: Splats, settings: RasterSettings) -> RasterOutput:
    """Render `splats`; every output is differentiable in every tensor of `splats`."""
    return composite_projected(kind_of(splats).project(splats, settings), splats, settings)


def composite_projected(
    projected: Projected, splats: Splats, settings: RasterSettings
) -> RasterOutput:
    """Render splats whose projection is known; `splats` adds features and carriers."""
    kind = kind_of(splats)
    bounds = kind.bounds(projected, settings)
    tiling = _tiling(projected, bounds, settings)
    geometry = kind.table(projected, splats, settings)[tiling.splat]
    features = splats.features
    parts = [projected.color, projected.normal] + ([] if features is None else [features])
    values = torch.cat(parts, dim=1)[tiling.splat]
    options = _options(settings, splats)
    image = _render(geometry, values, tiling, kind.meet, options)

    image = image.T.reshape(-1, settings.height, settings.width)
    color, normal, extra, maps = image.split([3, 3, values.shape[1] - 6, len(MAP_COLUMNS)])
    background = settings.background.detach().to(color)[:, None, None]
    return RasterOutput(
        color=color + (1.0 - maps[0:1]) * background,
        features=extra,
        alpha=maps[0:1],
        depth=maps[1:2],
        median_depth=maps[2:3],
        normal=normal,
        distortion=maps[3:4],
        radii=bounds.radii,
    )


def _options(settings: RasterSettings, splats: Splats) -> BlendOptions:
    carriers = splats.screen_grad is not None or splats.screen_grad_abs is not None
    center = settings.low_pass_depth == "center"
    return BlendOptions(settings.near, settings.far, center, carriers)


def _tiling(projected: Projected, bounds: Bounds, settings: RasterSettings) -> Tiling:
    depth = projected.depth.detach()
    return build_tiling(bounds.box, depth, settings.width, settings.height)


def _render(
    geometry: Tensor, values: Tensor, tiling: Tiling, meet: Meet, options: BlendOptions
) -> Tensor:
    """Composite every tile; rows [H * W, V + 4] in image order."""
    cells = 256 * len(tiling.splat)
    tracked = torch.is_grad_enabled() and (geometry.requires_grad or values.requires_grad)
    recompute = tracked and cells > KEEP_CELLS
    images, places = [], []
    per_tile = zip(geometry.split(tiling.counts), values.split(tiling.counts), strict=True)
    for tile, (rows, columns) in enumerate(per_tile):
        for place, pixels in tile_blocks(tiling, tile, geometry.device):
            points = pixels.to(geometry) + 0.5
            if recompute:
                image = checkpoint(
                    composite, rows, columns, points, meet, options,
                    use_reentrant=False, preserve_rng_state=False,
                )  # fmt: skip
            else:
                image = composite(rows, columns, points, meet, options)
            images.append(image)
            places.append(place)
    return torch.cat(images)[torch.argsort(torch.cat(places))]


@torch.no_grad()
def blend_weights_reference(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0
) -> BlendWeights:
    """Weights w >= `min_weight` of every contributing pixel-splat pair, front to back."""
    kind = kind_of(splats)
    projected = kind.project(splats, settings)
    tiling = _tiling(projected, kind.bounds(projected, settings), settings)
    plain = replace(splats, screen_grad=None, screen_grad_abs=None)
    table = kind.table(projected, plain, settings)[tiling.splat]
    options = _options(settings, plain)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    listed = tiling.splat.split(tiling.counts)
    for tile, rows in enumerate(table.split(tiling.counts)):
        for place, pixels in tile_blocks(tiling, tile, table.device):
            blended: Blended = blend(rows, pixels.to(table) + 0.5, kind.meet, options)
            keep = (blended.weight > 0) & (blended.weight >= min_weight)
            pixel, column = keep.nonzero(as_tuple=True)
            found.append((place[pixel], listed[tile][column], blended.weight[keep]))
    pixel, splat, weight = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(pixel, stable=True)
    size = settings.width * settings.height
    row_start = torch.zeros(size + 1, dtype=torch.int64, device=pixel.device)
    row_start[1:] = torch.cumsum(torch.bincount(pixel, minlength=size), dim=0)
    return BlendWeights(
        row_start=row_start,
        splat=splat[order].to(torch.int32),
        weight=weight[order].to(torch.float32),
        n_splats=len(splats.means),
    )


@torch.no_grad()
def add_label_weights_reference(
    splats: Splats, settings: RasterSettings, labels: Tensor, sums: Tensor, min_weight: float = 0.0
) -> None:
    """The same weights, added to `sums` by the labels of the pixels."""
    rows = blend_weights_reference(splats, settings, min_weight)
    parts = (rows.weight.double() * LABEL_WEIGHT_PARTS).round().long()
    for label_map in labels.flatten(1):
        column = torch.repeat_interleave(label_map.long(), rows.row_start.diff())
        said = column >= 0
        cell = rows.splat.long()[said] * sums.shape[1] + column[said]
        sums.view(-1).index_add_(0, cell, parts[said])


@torch.no_grad()
def quad_weights_reference(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0
) -> QuadWeights:
    """The same weights by quads of pixels."""
    rows = blend_weights_reference(splats, settings, min_weight)
    depth = kind_of(splats).project(splats, settings).depth
    return quads_from_rows(rows, depth, settings.width, settings.height)


class _SplatWeights(torch.autograd.Function):
    """Sparse [P, N] times dense [N, C] by entry chunks; deterministic in both directions."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, row: Tensor, splat: Tensor, weight: Tensor, rows: int
    ) -> Tensor:
        ctx.save_for_backward(row, splat, weight)
        ctx.n_splats = len(values)
        result = values.new_zeros(rows, values.shape[1])
        for r, s, w in _entry_chunks(row, splat, weight):
            result.index_add_(0, r, values[s] * w[:, None].to(values))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        row, splat, weight = ctx.saved_tensors
        result = gradient.new_zeros(ctx.n_splats, gradient.shape[1])
        for r, s, w in _entry_chunks(row, splat, weight):
            result.index_add_(0, s, gradient[r] * w[:, None].to(gradient))
        return result, None, None, None, None


def _entry_chunks(*columns: Tensor) -> zip[tuple[Tensor, ...]]:
    return zip(*(column.split(ENTRIES_PER_CHUNK) for column in columns), strict=True)


def splat_weights_reference(weights: BlendWeights, rows: Tensor | None, values: Tensor) -> Tensor:
    """Images [P, C] of per-splat values [N, C] at pixel rows [P] (None: all, in image order)."""
    start = weights.row_start
    if rows is None:
        rows = torch.arange(len(start) - 1, device=start.device)
    rows = rows.to(start.device)
    counts = start[rows + 1] - start[rows]
    row = torch.repeat_interleave(torch.arange(len(rows), device=start.device), counts)
    within = torch.arange(len(row), device=start.device)
    entry = start[rows][row] + within - (torch.cumsum(counts, dim=0) - counts)[row]
    splat, weight = weights.splat[entry].long(), weights.weight[entry]
    result: Tensor = _SplatWeights.apply(values, row, splat, weight, len(rows))
    return result
