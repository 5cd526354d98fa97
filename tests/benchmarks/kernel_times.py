# SPDX-License-Identifier: Apache-2.0
"""Where the time of a step lies on a GPU: every CUDA kernel alone, medians between its events.

The events round a kernel make the whole slower, so nothing here is comparable with the times of
whole calls. A kernel shorter than its launch reads as long as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from diff_surfel_rasterization import quad_weights, splat_quads
from diff_surfel_rasterization.times import KernelTime, timed_kernels
from tests.benchmarks import image_loss, mask_loss, step_kernels
from tests.benchmarks.cached_weights import MIN_WEIGHT
from tests.benchmarks.options import Options
from tests.benchmarks.renderers import candidate, with_densification_signal
from tests.benchmarks.scenes import LARGE, QUICK, make_scene, make_settings
from tests.benchmarks.tables import Table
from tests.benchmarks.timing import Candidate, Meter, time_candidates


def workloads(options: Options, meter: Meter) -> Iterator[Candidate]:
    """What a training step launches, one after the other."""
    size = QUICK if options.quick else LARGE
    surfels, settings = make_scene(size, device=meter.device), make_settings(size)
    whole = f"rasterizer, {size.name}, 3 + 16 channels"
    yield candidate(whole, with_densification_signal(surfels), settings, meter.backend)
    features = surfels.features
    assert features is not None
    quads = quad_weights(surfels, settings, MIN_WEIGHT, backend=meter.backend)
    name = f"stored weights by quads, {size.name}, 16 channels"
    yield Candidate(name, lambda: (splat_quads(quads, features),), [features])
    pixels = mask_loss.PIXELS // 100 if options.quick else mask_loss.PIXELS
    queries = mask_loss.QUERIES
    name = f"mask losses, {queries} queries x {pixels} pixels"
    yield mask_loss.candidate(name, mask_loss.fused, queries, pixels, meter.device, 1)
    sides = (size.width, size.height)
    image, target = image_loss.make_pair(*sides, meter.device)
    name = f"image losses, {size.width}x{size.height}"
    yield Candidate(name, lambda: image_loss.fused(image, target), [image])
    images, view = step_kernels.make_surface(*sides, meter.device)
    leaves: list[Tensor] = [images.normal, images.depth, images.alpha]
    name = f"normal consistency, {size.width}x{size.height}"
    yield Candidate(name, partial(step_kernels.normals, images, view, "auto"), leaves)
    degree = 3
    raw = step_kernels.make_parameters(size.splats, degree, meter.device)
    name = f"activations, {size.splats} splats of degree {degree}"
    yield Candidate(name, partial(step_kernels.activations, raw, degree, "auto"), raw)


def table(work: Candidate, times: Sequence[KernelTime], repeats: int, hardware: str) -> Table:
    """One workload's kernels; a kernel that a step launches twice counts twice in its sum."""
    rows = [
        {
            "name": time.name,
            "launches_a_step": time.launches / repeats,
            "median_ms": time.median_ms,
            "least_ms": time.least_ms,
            "ms_a_step": time.total_ms / repeats,
        }
        for time in times
    ]
    total = sum(time.total_ms for time in times) / repeats
    notes = [f"all kernels: {total:.3f} ms a step, forward and backward"]
    return Table(f"{work.name}, {hardware}", rows, notes)


def measured(work: Candidate, meter: Meter, repeats: int) -> list[KernelTime]:
    """The kernels of `repeats` steps, after the runs that warm up."""
    time_candidates([Candidate(work.name, work.render, work.leaves, repeats=1)], meter)
    once = Candidate(work.name, work.render, work.leaves, repeats=1)
    with timed_kernels() as times:
        for _ in range(repeats):
            step(once)
        meter.synchronize()
    return times


def step(work: Candidate) -> None:
    """Forward and backward under ones."""
    images = [image for image in work.render() if image.numel() and image.requires_grad]
    torch.autograd.backward(images, [torch.ones_like(image) for image in images])
    for leaf in work.leaves:
        leaf.grad = None


def run(options: Options) -> list[Table]:
    """Nothing without a GPU."""
    meter = options.meter("cuda")
    if meter is None:
        return []
    return [
        table(work, measured(work, meter, options.repeats), options.repeats, meter.name)
        for work in workloads(options, meter)
    ]
