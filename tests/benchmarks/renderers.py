# SPDX-License-Identifier: Apache-2.0
"""Our rasterizer as a candidate, with all that it renders or without features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diff_surfel_rasterization import RasterOutput, RasterSettings, Splats, Surfels, rasterize
from tests.benchmarks.timing import Candidate, leaves_of

Images = tuple[Tensor, ...]
OURS = "ours"
COLOR_ONLY = "ours, colour only"
MAPS = "alpha, depth, median depth, normal, distortion"


def differentiable_images(output: RasterOutput) -> Images:
    """All that gradients flow through here; the median depth is rendered and left alone."""
    return (
        output.color,
        output.features,
        output.alpha,
        output.depth,
        output.normal,
        output.distortion,
    )


def all_images(settings: RasterSettings, backend: str) -> Callable[[Splats], Images]:
    """From splats to every image that we make: 19 channels and seven maps in the usual scene."""

    def render(splats: Splats) -> Images:
        return differentiable_images(rasterize(splats, settings, backend))

    return render


def without_features(surfels: Surfels) -> Surfels:
    """The same splats with colour alone, to see what the other channels cost."""
    return replace(surfels, features=None)


def with_densification_signal(surfels: Surfels) -> Surfels:
    """The same splats with the carrier of the screen gradient, as training renders them."""
    return replace(surfels, screen_grad=torch.zeros_like(surfels.means, requires_grad=True))


def candidate(
    name: str,
    splats: Splats,
    settings: RasterSettings,
    backend: str,
    *,
    threads: int = 1,
    repeats: int = 1,
) -> Candidate:
    """A backend of ours on these splats."""
    render = all_images(settings, backend)
    return Candidate(name, lambda: render(splats), leaves_of(splats), threads, repeats)
