# SPDX-License-Identifier: Apache-2.0
"""What a reconstruction step does beside rasterizing and comparing pictures: kernels and torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from diff_surfel_rasterization import RasterOutput, RasterSettings
from diff_surfel_rasterization.losses import normal_loss
from diff_surfel_rasterization.training import activate_splats
from tests.benchmarks.options import Options
from tests.benchmarks.tables import Table, timing_table
from tests.benchmarks.timing import Candidate, Meter, time_candidates
from utils.spherical_harmonics import coefficient_count

SIZES = ((256, 192), (640, 426), (1600, 1060))  # width, height
SPLATS = ((37_000, 1), (200_000, 3), (1_000_000, 3))  # and the degree of their harmonics
QUICK_SIZES, QUICK_SPLATS = ((96, 64),), ((500, 1),)
MOST_REPEATS = 7
KINDS = {"kernel": "auto", "torch": "reference"}


def make_surface(width: int, height: int, device: str) -> tuple[RasterOutput, RasterSettings]:
    """A bumpy surface as the rasterizer would give it; normal, depth and alpha want gradients."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 5, 12, 16, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].to(device)
    alpha = (0.5 + 0.5 * maps[:1]).requires_grad_()
    nothing = torch.zeros(0, height, width, device=device)
    images = RasterOutput(
        color=nothing,
        features=nothing,
        alpha=alpha,
        depth=(alpha.detach() * (2 + maps[1:2])).requires_grad_(),
        median_depth=2 + maps[1:2],
        normal=(maps[2:] - 1).requires_grad_(),
        distortion=nothing,
        radii=torch.zeros(0, dtype=torch.int32, device=device),
    )
    pose, black = torch.eye(4), torch.zeros(3)
    view = RasterSettings(width, height, width, width, width / 2, height / 2, pose, black)
    return images, view


def make_parameters(count: int, degree: int, device: str) -> list[Tensor]:
    """Raw parameters that want gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((count, 2), (count, 1), (count, 1, 3), (count, coefficient_count(degree) - 1, 3))
    return [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]


def normals(images: RasterOutput, view: RasterSettings, backend: str) -> Sequence[Tensor]:
    return [normal_loss(images, view, backend=backend)]


def activations(raw: list[Tensor], degree: int, backend: str) -> Sequence[Tensor]:
    return activate_splats(*raw, sh_degree=degree, backend=backend)


def tables(options: Options, meter: Meter) -> list[Table]:
    """All sizes of both."""
    repeats, found = min(options.repeats, MOST_REPEATS), []
    over = "processor time, one thread each" if meter.kind == "cpu" else "time between events"
    for width, height in QUICK_SIZES if options.quick else SIZES:
        images, view = make_surface(width, height, meter.device)
        leaves = [images.normal, images.depth, images.alpha]
        rows = [
            Candidate(name, partial(normals, images, view, backend), leaves, repeats=repeats)
            for name, backend in KINDS.items()
        ]
        title = f"Normal consistency and its gradients, {width}x{height}, {meter.name}"
        found.append(timing_table(title, time_candidates(rows, meter), [f"ratios over {over}"]))
    for count, degree in QUICK_SPLATS if options.quick else SPLATS:
        raw = make_parameters(count, degree, meter.device)
        rows = [
            Candidate(name, partial(activations, raw, degree, backend), raw, repeats=repeats)
            for name, backend in KINDS.items()
        ]
        title = f"Activations of {count} splats of degree {degree}, {meter.name}"
        found.append(timing_table(title, time_candidates(rows, meter), [f"ratios over {over}"]))
    return found


def run(options: Options) -> list[Table]:
    """On every device."""
    return [table for meter in options.meters for table in tables(options, meter)]
