# SPDX-License-Identifier: Apache-2.0
"""Depth images to a truncated signed distance field (Curless and Levoy 1996), in blocks of voxels.

Only blocks near a surface exist. The signed distance of a voxel is the mean over the views of
(depth of the surface - depth of the voxel) / reach, at most 1; views in which the voxel lies deeper
behind the surface than the reach say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iqgs.export.mesh.grids import Grid
from iqgs.export.mesh.views import DepthView
from utils.errors import UserError

SIDE = 8  # voxels along the edge of a block
CUBE = SIDE**3
MOST_VOXELS = 400_000_000  # eight bytes each
# What a single view saw is as often wrong as right at rims and on hardly seen backs. Measured on
# the embedded room: two views instead of one bring 5 % of accuracy for 1 % of completeness.
FEWEST_VIEWS = 2
_BLOCKS_AT_ONCE = 2048  # a million voxels: what is computed at a time
_KEY = 1 << 20  # block coordinates are within +- half of it


@dataclass(frozen=True, eq=False)
class Field:
    """Blocks of voxels in ascending order of their keys."""

    grid: Grid
    blocks: Tensor  # [B, 3] int64: block k holds voxels 8 k .. 8 k + 7 along each axis
    distance: Tensor  # [B, 8, 8, 8] in -1..1, axes x, y, z; NaN where too few views saw the voxel

    @property
    def device(self) -> torch.device:
        return self.distance.device


def fuse(views: Sequence[DepthView], grid: Grid, farthest: float) -> Field:
    """The field of all views. UserError where the voxels are too fine for it to be held.

    Depths beyond `farthest` make no surface, but what lies before them is known to be free.
    """
    blocks = _surface_blocks(views, grid, farthest)
    if len(blocks) * CUBE > MOST_VOXELS:
        needed = len(blocks) * CUBE * 8 / 1e9
        raise UserError(
            f"--voxel_size {grid.voxel:.3g}: the surfaces take {needed:.1f} GB of voxels; "
            "give a larger one, or a smaller --depth_trunc"
        )
    total = torch.zeros(len(blocks), CUBE, device=blocks.device)
    count = torch.zeros_like(total)
    for view in views:
        _integrate(view, grid, blocks, total, count)
    count[count < min(FEWEST_VIEWS, len(views))] = 0
    distance = total.div_(count)  # no number where the count is 0
    distance[count == 0] = torch.nan
    return Field(grid, blocks, distance.reshape(-1, SIDE, SIDE, SIDE))


def block_keys(blocks: Tensor) -> Tensor:
    """One number [B] a block, ascending in the order of x, then y, then z."""
    shifted = blocks + _KEY // 2
    return (shifted[:, 0] * _KEY + shifted[:, 1]) * _KEY + shifted[:, 2]


def _surface_blocks(views: Sequence[DepthView], grid: Grid, farthest: float) -> Tensor:
    """The blocks [B, 3] that a depth reaches, in order of their keys."""
    keys: list[Tensor] = []
    for view in views:
        keys.append(torch.unique(block_keys(_blocks_of(view, grid, farthest))))
        if len(keys) > 8:
            keys = [torch.unique(torch.cat(keys))]
    if not keys:
        return torch.zeros(0, 3, dtype=torch.int64)
    key = torch.unique(torch.cat(keys))
    parts = [key // (_KEY * _KEY), key // _KEY % _KEY, key % _KEY]
    return torch.stack(parts, dim=1) - _KEY // 2


def _blocks_of(view: DepthView, grid: Grid, farthest: float) -> Tensor:
    """Blocks [M, 3], with repetitions, along the rays of a view within reach of their depths."""
    camera = view.camera
    near = (view.depth > 0) & (view.depth <= farthest) & view.depth.isfinite()
    rows, columns = near.nonzero().unbind(dim=1)
    depth = view.depth[rows, columns]
    pixels = torch.stack([columns, rows], dim=1).double() + 0.5
    rays = camera.ray_directions(pixels)
    along = rays @ camera.forward.to(rays)
    start = camera.center.to(rays)
    unit = rays / along[:, None]
    reach = grid.reach_at((start + unit * depth.double()[:, None]).to(depth))
    # Steps of at most half a block along the ray.
    steps = max(3, int(4 * grid.reach / (SIDE * grid.voxel)) + 2)
    found = []
    for share in torch.linspace(-1, 1, steps).tolist():
        deep = (depth + share * reach).clamp_min(camera.near).double()
        points = (start + unit * deep[:, None]).to(depth)
        found.append((grid.to_grid(points) / SIDE).floor().long())
    return torch.cat(found)


def _integrate(view: DepthView, grid: Grid, blocks: Tensor, total: Tensor, count: Tensor) -> None:
    """Add what one view says to the sums [B, 512]."""
    axis = torch.arange(SIDE, device=blocks.device)
    inner = torch.cartesian_prod(axis, axis, axis)
    for first in range(0, len(blocks), _BLOCKS_AT_ONCE):
        part = blocks[first : first + _BLOCKS_AT_ONCE]
        near = _in_sight(view, grid, part)
        if not len(near):
            continue
        places = (part[near][:, None] * SIDE + inner).reshape(-1, 3)
        points = grid.to_world(places.to(view.depth))
        x, y, z = view.project(points)
        depth = view.depth_at(x, y)
        behind = depth - z
        reach = grid.reach_at(points)
        valid = view.inside(x, y, z) & (depth > 0) & (behind >= -reach)
        signed = torch.where(valid, (behind / reach).clamp_max(1.0), torch.zeros_like(behind))
        total[first + near] += signed.reshape(-1, CUBE)
        count[first + near] += valid.to(count).reshape(-1, CUBE)


def _in_sight(view: DepthView, grid: Grid, blocks: Tensor) -> Tensor:
    """Indices of blocks [B, 3] of which a part may lie in the image, by balls round them."""
    low = grid.to_world((blocks * SIDE).to(view.depth))
    high = grid.to_world((blocks * SIDE + SIDE - 1).to(view.depth))
    center, radius = (low + high) / 2, (high - low).norm(dim=1) / 2
    x, y, z = view.project(center)
    camera = view.camera
    margin = max(camera.fx, camera.fy) * radius / z.clamp_min(camera.near) * 1.5 + 1
    seen = z + radius > camera.near
    seen &= (x > -margin) & (x < camera.width + margin)
    seen &= (y > -margin) & (y < camera.height + margin)
    close = z < 4 * radius + camera.near  # the ball's outline is not a circle there
    return (seen | (close & (z + radius > camera.near))).nonzero()[:, 0]
