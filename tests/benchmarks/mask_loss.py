# SPDX-License-Identifier: Apache-2.0
"""Focal and dice loss over a whole view: the fused kernel beside plain torch on stored logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diff_surfel_rasterization.losses import mask_loss
from iqgs.methods.iqgs.losses import dice_loss, focal_loss
from tests.benchmarks.options import Options
from tests.benchmarks.tables import Goal, Table, timing_table
from tests.benchmarks.timing import Candidate, Meter, Row, time_candidates

CHANNELS = 16
PATCH = 700  # consecutive pixels with one owner, as label maps have them
QUERIES, PIXELS = 60, 700_000  # the gate
GROWTH = (15, 60, 300)
MOST_PLAIN_REPEATS = 3
GAMMA = 2.0

Losses = Callable[[Tensor, Tensor, Tensor], Sequence[Tensor]]


def fused(queries: Tensor, features: Tensor, owner: Tensor) -> Sequence[Tensor]:
    """Ours: no logit is stored."""
    return mask_loss(queries, features, owner, GAMMA, None)


def plain(queries: Tensor, features: Tensor, owner: Tensor) -> Sequence[Tensor]:
    """The same by the losses of `iqgs.methods.iqgs.losses` on all logits."""
    logits = queries @ features.T
    masks = owner[None] == torch.arange(len(queries), device=owner.device)[:, None]
    return focal_loss(logits, masks, GAMMA, None), dice_loss(logits, masks)


def candidate(
    name: str, losses: Losses, count: int, pixels: int, device: str, repeats: int
) -> Candidate:
    """Losses of `count` queries over a made view."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(count, CHANNELS, generator=generator).to(device).requires_grad_()
    features = torch.randn(pixels, CHANNELS, generator=generator).to(device).requires_grad_()
    patches = torch.randint(-1, count, (pixels // PATCH + 1,), generator=generator)
    owner = patches.repeat_interleave(PATCH)[:pixels].to(device)
    return Candidate(
        name, lambda: losses(queries, features, owner), [queries, features], repeats=repeats
    )


def goals(rows: Sequence[Row]) -> list[Goal]:
    """What the gate's size has to reach."""
    times = sum(rows[1].cost()) / sum(rows[0].cost())
    return [Goal("times faster than plain torch", times, 20.0)]


def table(options: Options, meter: Meter) -> Table:
    """Fused beside plain at the gate's size."""
    pixels = PIXELS // 10 if options.quick else PIXELS
    slow = min(options.repeats, MOST_PLAIN_REPEATS)
    rows = time_candidates(
        [
            candidate("fused", fused, QUERIES, pixels, meter.device, options.repeats),
            candidate("plain torch, logits stored", plain, QUERIES, pixels, meter.device, slow),
        ],
        meter,
    )
    title = f"focal + dice, {QUERIES} queries x {pixels} pixels, {meter.name}"
    gate = goals(rows) if meter.kind == "cpu" and not options.quick else ()
    over = "processor time, one thread each" if meter.kind == "cpu" else "time between events"
    return timing_table(title, rows, [f"ratios over {over}"], gate)


def growth(options: Options, meter: Meter) -> Table:
    """The fused kernel with more queries."""
    pixels = PIXELS // 10 if options.quick else PIXELS
    repeats = min(options.repeats, 5)
    rows = time_candidates(
        [
            candidate(f"{count} queries", fused, count, pixels, meter.device, repeats)
            for count in GROWTH
        ],
        meter,
    )
    return timing_table(f"fused focal + dice, {pixels} pixels, by N_q, {meter.name}", rows)


def run(options: Options) -> list[Table]:
    """Every device."""
    return [make(options, meter) for meter in options.meters for make in (table, growth)]
