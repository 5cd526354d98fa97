# SPDX-License-Identifier: Apache-2.0
"""Depth of rendered views, put right by comparing their pictures (multi-view stereo).

Splats may explain photographs without lying on surfaces: plain walls become clouds, and layers
stand behind what they show. What the training views show is right all the same, and two of them
agree about a point only where its depth is right. As in PGSR (Chen et al. 2024) and GS2Mesh (Wolf
et al. 2024), pictures rendered from splats tell more of their surfaces than the splats do.

Each view's depth is tried a little nearer and farther, as a whole, so that slopes stay as they are;
its picture is compared with those of its neighbours by normalized cross-correlation, in windows,
and the best shift of each pixel is found by semi-global matching (Hirschmüller 2008, Eq. 13) within
the pixels of one object. Where pictures say nothing, in plain places, the depth stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from iqgs.export.mesh.views import DepthView

PARALLAX = 0.21  # tangent of the angle between two views of a point that is best: 12 degrees
ANGLES = 5.0, 12.0  # degrees by which it may be smaller or larger (standard deviations)
GRID = 12  # pixels between the places by which neighbours are chosen
OCCLUDED = 0.08  # a neighbour's surface that much nearer hides the place, share of its depth


@dataclass(frozen=True)
class Search:
    """How the depth of a view is searched for; shifts in pixels of parallax at 12 degrees."""

    neighbours: int = 8
    best: int = 4  # of the neighbours count for each pixel and depth
    window: int = 3  # pixels on each side
    reach: float = 3.0
    step: float = 0.375
    noise: float = 3e-2  # of rendered colours, 0..1; plainer windows say nothing
    small: float = 0.05  # price of a step between neighbouring pixels
    large: float = 0.5  # price of a jump
    stay: float = 0.05  # price of the largest shift
    purity: float = 4.0  # power of the share of a window that is of the pixel's object


def refined_views(views: Sequence[DepthView], search: Search) -> Iterator[DepthView]:
    """The views with better depth, one after another; all need colours.

    Pixels without a depth keep none. Each view is compared with its neighbours as they were.
    """
    for view, near in zip(views, neighbours_of(views, search.neighbours), strict=True):
        yield replace(view, depth=refined_depth(view, [views[k] for k in near], search))


def refined_depth(view: DepthView, near: Sequence[DepthView], search: Search) -> Tensor:
    """The depth [H, W] of a view by its neighbours."""
    known = (view.depth > 0) & view.depth.isfinite()
    if len(near) < 2 or not bool(known.any()):
        return view.depth
    region = regions(view, known)
    base = smoothed(view.depth, region)
    unit = 1 / (max(view.camera.fx, view.camera.fy) * PARALLAX)
    half = round(search.reach / search.step)
    shifts = torch.arange(-half, half + 1, device=base.device) * (search.step * unit)
    costs = matching_costs(view, near, torch.where(known, base, 1.0), shifts, search)
    costs = costs * pure_share(region, search.window) ** search.purity
    costs += search.stay * (shifts / shifts[-1])[:, None, None].square()
    shift = best_shift(aggregated(costs, region, search.small, search.large), shifts)
    return torch.where(known, base / (1 + shift), view.depth)


def neighbours_of(views: Sequence[DepthView], count: int) -> list[list[int]]:
    """For each view the `count` others that see most of its surface under useful angles."""
    centers = torch.stack([view.camera.center for view in views])
    found = []
    for index, view in enumerate(views):
        points = _grid_points(view)
        scores = torch.zeros(len(views))
        for other, seen_by in enumerate(views):
            if other == index or not len(points):
                continue
            x, y, z = seen_by.project(points)
            inside = seen_by.inside(x, y, z)
            seen = (seen_by.nearest(seen_by.depth, x, y) - z).abs() <= OCCLUDED * z
            a, b = (F.normalize(centers[k].to(points) - points, dim=1) for k in (index, other))
            angle = torch.rad2deg(torch.acos((a * b).sum(dim=1).clamp(-1, 1)))
            off = angle - float(torch.rad2deg(torch.atan(torch.tensor(PARALLAX))))
            width = torch.where(off < 0, ANGLES[0], ANGLES[1])
            scores[other] = torch.where(
                inside & seen, torch.exp(-((off / width) ** 2) / 2), 0
            ).sum()
        order = torch.argsort(scores, descending=True, stable=True)[:count]
        found.append([int(k) for k in order if scores[k] > 0])
    return found


def _grid_points(view: DepthView) -> Tensor:
    """World points [N, 3] of every twelfth pixel that has a depth."""
    rows, columns = ((view.depth > 0) & view.depth.isfinite()).nonzero().unbind(dim=1)
    kept = (rows % GRID == GRID // 3) & (columns % GRID == GRID // 3)
    rows, columns = rows[kept], columns[kept]
    rays = _unit_depth_rays(view, columns, rows)
    return view.camera.center.to(rays) + rays * view.depth[rows, columns][:, None]


def _unit_depth_rays(view: DepthView, columns: Tensor, rows: Tensor) -> Tensor:
    """World directions [N, 3] of pixels, one unit long along the optical axis."""
    camera = view.camera
    rays = camera.ray_directions(torch.stack([columns, rows], dim=1).double() + 0.5)
    return (rays / (rays @ camera.forward.to(rays))[:, None]).to(view.depth)


def regions(view: DepthView, known: Tensor) -> Tensor:
    """The object [H, W] of each pixel, -1 where there is no depth."""
    labels = torch.zeros_like(known, dtype=torch.int64) if view.labels is None else view.labels
    return torch.where(known, labels, -1)


def smoothed(depth: Tensor, region: Tensor) -> Tensor:
    """The median over 5 x 5 pixels where all of them are of one region, else the depth."""
    patches = F.unfold(F.pad(depth[None, None], (2, 2, 2, 2), mode="replicate"), 5)[0]
    median = patches.median(dim=0).values.reshape(depth.shape)
    return torch.where((pure_share(region, 2) == 1) & (region >= 0), median, depth)


def pure_share(region: Tensor, radius: int) -> Tensor:
    """The share [H, W] of a pixel's window that is of its own region."""
    height, width = region.shape
    side = 2 * radius + 1
    around = F.pad(region[None, None].float(), (radius,) * 4, mode="replicate")[0, 0]
    same = torch.zeros_like(around[:height, :width])
    for down in range(side):
        for across in range(side):
            same += around[down : down + height, across : across + width] == region
    return same / side**2


def windowed(images: Tensor, radius: int) -> Tensor:
    """Means [N, C, H, W] over windows of 2 radius + 1 pixels a side."""
    side = 2 * radius + 1
    rows = F.avg_pool2d(images, (side, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)


def matching_costs(
    view: DepthView, near: Sequence[DepthView], base: Tensor, shifts: Tensor, search: Search
) -> Tensor:
    """1 - correlation [K, H, W] with the best neighbours, of depth base / (1 + shift).

    1 where fewer than two of them see a pixel.
    """
    height, width = base.shape
    rows, columns = torch.meshgrid(
        torch.arange(height, device=base.device),
        torch.arange(width, device=base.device),
        indexing="ij",
    )
    rays = _unit_depth_rays(view, columns.ravel(), rows.ravel())
    start = view.camera.center.to(rays)
    own = pictured(view)
    stats = windowed(torch.cat([own, own * own], 1), search.window)
    channels = own.shape[1]
    mean, noise = stats[:, :channels], search.noise**2
    spread = (stats[:, channels:] - mean**2).sum(1).clamp_min(0) + noise
    visible = [_visible(other, start + rays * base.reshape(-1, 1)) for other in near]
    costs = []
    for shift in shifts:
        points = start + rays * (base / (1 + shift)).reshape(-1, 1)
        scores = []
        for other, seen in zip(near, visible, strict=True):
            x, y, z = other.project(points)
            camera = other.camera
            places = torch.stack([(x + 0.5) / camera.width, (y + 0.5) / camera.height], -1) * 2 - 1
            their = F.grid_sample(
                pictured(other),
                places.reshape(1, height, width, 2),
                padding_mode="border",
                align_corners=False,
            )
            part = windowed(torch.cat([their, their * their, own * their], 1), search.window)
            their_mean, square, product = part.split(channels, dim=1)
            their_spread = (square - their_mean**2).sum(1).clamp_min(0) + noise
            match = (product - mean * their_mean).sum(1) / (spread * their_spread).sqrt()
            good = seen & other.inside(x, y, z)
            scores.append(torch.where(good.reshape(height, width), match[0], -1.0))
        top = torch.stack(scores).topk(min(search.best, len(near)), dim=0).values
        counted = (top > -1).sum(dim=0)
        correlation = torch.where(top > -1, top, 0.0).sum(dim=0) / counted.clamp_min(1)
        costs.append(torch.where(counted >= 2, 1 - correlation, 1.0))
    return torch.stack(costs)


def pictured(view: DepthView) -> Tensor:
    """The picture [1, C, H, W] that is compared."""
    if view.color is None:
        raise ValueError(f"{view.camera.name} has no colours to compare")
    return view.color[None].float() / 255


def _visible(view: DepthView, points: Tensor) -> Tensor:
    """Which points [N, 3] nothing hides from a view, nearly."""
    x, y, z = view.project(points)
    return z <= (1 + OCCLUDED) * view.nearest(view.depth, x, y)


def aggregated(costs: Tensor, region: Tensor, small: float, large: float) -> Tensor:
    """Costs [K, H, W] summed along four directions, each within one region."""
    total = torch.zeros_like(costs)
    for turned in (False, True):
        values, parts = (costs.mT, region.T) if turned else (costs, region)
        for flipped in (False, True):
            if flipped:
                values, parts = values.flip(1), parts.flip(0)
            found = _along(values, parts, small, large)
            found = found.flip(1) if flipped else found
            total += found.mT if turned else found
    return total


def _along(costs: Tensor, region: Tensor, small: float, large: float) -> Tensor:
    """Semi-global costs [K, N, M] along the second axis."""
    found = torch.empty_like(costs)
    found[:, 0] = before = costs[:, 0]
    for k in range(1, costs.shape[1]):
        least = before.amin(dim=0)
        carried = torch.minimum(before, least + large)
        carried[1:] = torch.minimum(carried[1:], before[:-1] + small)
        carried[:-1] = torch.minimum(carried[:-1], before[1:] + small)
        carried = torch.where(region[k] == region[k - 1], carried - least, 0.0)
        found[:, k] = before = costs[:, k] + carried
    return found


def best_shift(costs: Tensor, shifts: Tensor) -> Tensor:
    """The shift [H, W] of least cost, between the tried ones by a parabola through three."""
    place = costs.argmin(dim=0).clamp(1, len(shifts) - 2)
    low, middle, high = (costs.gather(0, (place + k)[None])[0] for k in (-1, 0, 1))
    bend = low - 2 * middle + high
    off = torch.where(bend > 1e-9, (low - high) / (2 * bend.clamp_min(1e-9)), 0.0).clamp(-1, 1)
    return shifts[0] + (place + off) * (shifts[1] - shifts[0])
