# SPDX-License-Identifier: Apache-2.0
"""Blending weights of frozen splats, kept from step to step.

With geometry frozen w_i(x, y) of a view never changes, so Eq. 1 becomes a sparse product. The room
is bounded, in memory or on disk: when all pixels of all views do not fit, every view keeps a random
subset of its pixels as large as its share allows, and steps sample from that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arguments import SegmentationParams
from diff_surfel_rasterization import (
    BlendWeights,
    QuadWeights,
    drop_unseen,
    keep_quads,
    sample_quads,
    splat_quads,
    splat_weights,
)
from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.lifting.weight_files import (
    CachedView,
    Choice,
    WeightFiles,
    geometry_digest,
    view_fingerprint,
)
from iqgs.engine.run import Run
from scene.frozen_gaussians import FrozenGaussians
from scene.view import View
from utils.tensors import select_rows

GIB = 2**30
QUAD_PIXELS = 4
# With fewer pixels to choose from than this many times the wanted ones, all are shuffled.
SPARSE_CHOICE = 4
# A subset must come this near below its share, or as near as so many attempts bring it.
FIT_MARGIN, FIT_ROUNDS = 0.97, 6
# Of the bytes that a view takes where a GPU multiplies all of it: the order of the entries by splat
# lies beside the table, eight bytes on an entry's twelve.
SHARE_BESIDE_ORDER = 12 / 20


@dataclass(frozen=True)
class SampledPixels:
    """P sampled pixels of a view, and the splats that touch them, renumbered 0..U-1."""

    pixels: Tensor  # [P] int64
    touched: Tensor  # [U] int64
    weights: BlendWeights | QuadWeights  # over splats U: of these pixels, or of the whole view
    whole: bool  # these are all pixels of the view, in order

    def splat(self, values: Tensor) -> Tensor:
        """Eq. 1 for the sampled pixels: values [U, C] -> [P, C]."""
        if isinstance(self.weights, BlendWeights):
            return splat_weights(self.weights, None, values)
        image = splat_quads(self.weights, values)
        return image if self.whole else select_rows(image, self.pixels)

    def splat_still(self, values: Tensor) -> Tensor:
        """The same: these weights stay as they are, whatever learns."""
        return self.splat(values)

    def listed(self) -> SampledPixels:
        """The same, by a table of these pixels."""
        if isinstance(self.weights, BlendWeights):
            return self
        sampled = sample_quads(self.weights, self.pixels)
        return SampledPixels(self.pixels, self.touched[sampled.touched], sampled.weights, False)

    @property
    def alpha(self) -> Tensor:
        """Accumulated opacity [P] of the kept weights."""
        ones = torch.ones(len(self.touched), 1, device=self.touched.device)
        return self.splat(ones)[:, 0]


def draw_distinct(total: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` different numbers below `total`, in random order."""
    if total < SPARSE_CHOICE * count:
        return torch.randperm(total, generator=generator)[:count]
    while True:
        # Of half as many again at most a sixth are repetitions; shuffling all would take longer.
        drawn = torch.randint(total, (count + count // 2 + 16,), generator=generator)
        ordered, position = drawn.sort(stable=True)
        first = torch.ones(len(drawn), dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        distinct = drawn[position[first].sort().values]
        if len(distinct) >= count:
            return distinct[:count]


@dataclass(frozen=True)
class EdgePixels:
    """Where more pixels of a view are looked at."""

    positions: Tensor  # [B] int64 among the kept pixels of the view, on the CPU
    share: float  # of the pixels of a step that are drawn from them


def sample_pixels(
    view: CachedView, count: int, generator: torch.Generator, edges: EdgePixels | None = None
) -> SampledPixels:
    """`count` pixels of the view without repetition (0: all that are kept), a share of them from
    its `edges`; those that are drawn twice are one.
    """
    device, total = view.touched.device, view.pixel_count
    if not 0 < count < total:
        pixels = torch.arange(total, device=device) if view.pixels is None else view.pixels
        return SampledPixels(pixels, view.touched, view.weights, whole=view.pixels is None)
    chosen = _chosen(total, count, generator, edges).to(device)
    pixels = chosen if view.pixels is None else view.pixels[chosen]
    sampled = sample_quads(view.weights, pixels)
    return SampledPixels(pixels, view.touched[sampled.touched], sampled.weights, whole=False)


def _chosen(total: int, count: int, generator: torch.Generator, edges: EdgePixels | None) -> Tensor:
    """Different numbers below `total`, about `count` of them."""
    if edges is None or len(edges.positions) == 0:
        return draw_distinct(total, count, generator)
    near = min(round(edges.share * count), len(edges.positions))
    drawn = edges.positions[draw_distinct(len(edges.positions), near, generator)]
    return torch.cat([drawn, draw_distinct(total, count - near, generator)]).unique()


def packed_shown(seen: Tensor, count: int) -> Tensor:
    """A bit for every one of `count` splats [ceil(N / 8)] uint8, on the CPU, from those seen."""
    shown = np.zeros(count, bool)
    shown[seen.cpu().numpy()] = True
    return torch.from_numpy(np.packbits(shown))


def whole_view(weights: QuadWeights) -> CachedView:
    """All pixels of a view."""
    over_seen, seen = drop_unseen(weights)
    return CachedView(over_seen, seen, None, packed_shown(seen, weights.n_splats))


def fit_view(weights: QuadWeights, share: float, seed: int) -> CachedView:
    """The view, with as many random quads of pixels as `share` bytes allow.

    Whole quads, because an entry holds the weights of four pixels: three times the pixels of a
    random choice of single ones in the same room.
    """
    whole = view = whole_view(weights)
    if view.nbytes <= share:
        return view
    sizes = whole.weights.quad_start.diff()
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed))
    order = order.to(sizes.device)
    start, row, weight, _ = whole.weights.tensors
    per_entry = row.element_size() + weight.element_size() * weight.shape[1]
    cost = (sizes[order] * per_entry + QUAD_PIXELS * 8).cumsum(0)
    fixed = start.numel() * start.element_size() + whole.shown.nbytes
    room = _room_for_entries(share - fixed, float(cost[-1]), len(row), len(whole.touched))
    for _ in range(FIT_ROUNDS):
        count = int(torch.searchsorted(cost, max(room, 1.0), right=True))
        kept, pixels = keep_quads(whole.weights, order[: max(count, 1)])
        over_kept, touched = drop_unseen(kept)
        view = CachedView(over_kept, whole.touched[touched], pixels, whole.shown)
        if view.nbytes <= share or count <= 1:
            break
        room *= max(share - fixed, 1.0) / max(view.nbytes - fixed, 1) * FIT_MARGIN
    return view


def _room_for_entries(room: float, cost: float, entries: int, splats: int) -> float:
    """Bytes for entries in `room`, beside what their splats cost: random quads that hold a share f
    of the entries show a splat of m entries with probability 1 - (1 - f)^m.
    """
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        seen = splats * (1 - (1 - middle) ** (entries / max(splats, 1)))
        low, high = (middle, high) if middle * cost + 8 * seen <= room else (low, middle)
    return low * cost * FIT_MARGIN


class WeightCache:
    """Views by index; filled on first use with `compute(index)`, within `budget_bytes`."""

    def __init__(
        self,
        n_views: int,
        compute: Callable[[int], QuadWeights],
        budget_bytes: float,
        seed: int,
        files: WeightFiles | None = None,
    ) -> None:
        self._compute = compute
        self._share = budget_bytes / max(n_views, 1)
        self._budget = budget_bytes
        self._seed = seed
        self._files = files
        self._views: dict[int, CachedView] = {}
        self.stored_bytes = 0
        self.subsampled = 0

    def view(self, index: int) -> CachedView:
        """The view's kept pixels; recomputed at every call when the budget is 0."""
        if self._budget <= 0:
            return whole_view(self._compute(index))
        if index not in self._views:
            view = self._views[index] = self._made(index)
            self.stored_bytes += view.nbytes
            self.subsampled += view.pixels is not None
        view = self._views[index]
        return view if self._files is None else self._files.on_device(view)

    def _made(self, index: int) -> CachedView:
        choice = Choice(self._share, self._seed * 1_000_003 + index)
        if self._files is None:
            return fit_view(self._compute(index), choice.share, choice.seed)
        found = self._files.read(index, choice)
        if found is None:
            view = fit_view(self._compute(index), choice.share, choice.seed)
            self._files.write(index, view, choice)
            found = self._files.read(index, choice)
        return view if found is None else found


def room_for_tables(options: SegmentationParams, device: torch.device) -> float:
    """Of `--cache_gb` what the views' tables may take, bytes."""
    ordered = device.type == "cuda" and options.pixels_per_step == 0
    return options.cache_gb * GIB * (SHARE_BESIDE_ORDER if ordered else 1.0)


def run_cache(run: Run, views: Sequence[View]) -> WeightCache:
    """The blending weights of a run's frozen splats in these views, within its `--cache_gb`."""
    options, files = run.config.segmentation, None
    if options.cache_path:
        splats = geometry_digest(run.gaussians)
        files = WeightFiles(
            Path(options.cache_path),
            lambda index: view_fingerprint(splats, views[index].camera, MIN_WEIGHT),
            run.gaussians.device,
        )
    still = FrozenGaussians(run.gaussians)
    return WeightCache(
        len(views),
        lambda index: run.renderer.lens(views[index].camera, still).quads(),
        room_for_tables(options, run.gaussians.device),
        run.config.train.seed,
        files,
    )
