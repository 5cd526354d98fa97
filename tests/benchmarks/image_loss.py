# SPDX-License-Identifier: Apache-2.0
"""L1 + SSIM of a rendered view with the gradient of the image: the fused kernel beside torch.

Rows: the kernel; our torch version, whose gradient is written out; and what trainers without a
kernel run, five depthwise convolutions of 11 x 11 under autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from diff_surfel_rasterization.losses import image_loss
from diff_surfel_rasterization.losses.similarity import SSIM_C1, SSIM_C2, SSIM_RADIUS, SSIM_WINDOW
from tests.benchmarks.options import Options
from tests.benchmarks.tables import Goal, Table, timing_table
from tests.benchmarks.timing import Candidate, Meter, Row, time_candidates

SIZES = ((256, 192), (640, 426), (1600, 1060))  # width, height
QUICK_SIZES = ((96, 64),)
GATES = {(256, 192): 6.0, (640, 426): 6.0}  # times our torch version, one thread
MOST_PLAIN_REPEATS = 5
FUSED, WRITTEN_OUT, PLAIN = "fused", "torch, gradient written out", "torch, plain autograd"

Losses = Callable[[Tensor, Tensor], Sequence[Tensor]]


def fused(image: Tensor, target: Tensor) -> Sequence[Tensor]:
    """Ours."""
    return image_loss(image, target)


def written_out(image: Tensor, target: Tensor) -> Sequence[Tensor]:
    """The fallback of the kernel."""
    return image_loss(image, target, backend="reference")


def plain(image: Tensor, target: Tensor) -> Sequence[Tensor]:
    """SSIM by convolutions, autograd as its backward."""
    channels = len(image)
    line = torch.tensor(SSIM_WINDOW, dtype=image.dtype, device=image.device)
    window = torch.outer(line, line).expand(channels, 1, -1, -1).contiguous()

    def blur(maps: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(maps[None], window, padding=SSIM_RADIUS, groups=channels)

    m, n = blur(image), blur(target)
    variance, other = blur(image * image) - m * m, blur(target * target) - n * n
    covariance = blur(image * target) - m * n
    above = (2 * m * n + SSIM_C1) * (2 * covariance + SSIM_C2)
    below = (m * m + n * n + SSIM_C1) * (variance + other + SSIM_C2)
    return (image - target).abs().mean(), 1 - (above / below).mean()


ROWS: dict[str, Losses] = {FUSED: fused, WRITTEN_OUT: written_out, PLAIN: plain}


def make_pair(width: int, height: int, device: str) -> tuple[Tensor, Tensor]:
    """A smooth picture and a disturbed copy that wants a gradient, [3, H, W]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 16, generator=generator)
    target = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    image = target + 0.05 * torch.randn(target.shape, generator=generator)
    return image.to(device).requires_grad_(), target.to(device)


def goals(size: tuple[int, int], rows: Sequence[Row]) -> list[Goal]:
    """What the kernel has to reach at some sizes."""
    if size not in GATES:
        return []
    times = sum(rows[1].cost()) / sum(rows[0].cost())
    return [Goal("times faster than our torch version", times, GATES[size])]


def table(size: tuple[int, int], options: Options, meter: Meter) -> Table:
    """All rows at one size."""
    image, target = make_pair(*size, meter.device)
    slow = min(options.repeats, MOST_PLAIN_REPEATS)
    rows = time_candidates(
        [
            Candidate(name, partial(losses, image, target), [image], repeats=repeats)
            for (name, losses), repeats in zip(
                ROWS.items(), (options.repeats, slow, slow), strict=True
            )
        ],
        meter,
    )
    over = "processor time, one thread each" if meter.kind == "cpu" else "time between events"
    title = f"L1 + SSIM and the image's gradient, {size[0]}x{size[1]}, {meter.name}"
    gate = goals(size, rows) if meter.kind == "cpu" and not options.quick else ()
    return timing_table(title, rows, [f"ratios over {over}"], gate)


def run(options: Options) -> list[Table]:
    """Every size on every device."""
    sizes = QUICK_SIZES if options.quick else SIZES
    return [table(size, options, meter) for meter in options.meters for size in sizes]
