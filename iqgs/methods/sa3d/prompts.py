# SPDX-License-Identifier: Apache-2.0
"""Self-prompting: the points that an object shows to the segmenter in the next view (SA3D)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EVEN = 0.5  # an object shows where its rendered score is above a half


def self_prompts(score: Tensor, depth: Tensor, count: int) -> Tensor:
    """At most `count` points [n, 2] int64 (x, y) for an object with rendered score [H, W].

    The first is where score - 1/2 is largest. Each further one is where it is largest after points
    near the ones before were taken out, a square of half-width r / 2 around each with r = sqrt(area
    / pi), and after the distance to each times that point's value was taken off. Distances are in
    x, y and depth [H, W], each scaled to 0..1 over the object. A point has a positive value.
    """
    pixels = (score > EVEN).nonzero()  # all others have negative values and never win
    y, x = pixels.unbind(dim=1)
    value = score[y, x] - EVEN
    places = scaled(torch.stack([x, y, depth[y, x]], dim=1))
    half_width = math.sqrt(len(pixels) / math.pi) / 2
    points: list[Tensor] = []
    for _ in range(count):
        if not bool((value > 0).any()):
            break
        best = int(value.argmax())
        points.append(pixels[best].flip(0))
        value = value - (places - places[best]).norm(dim=1) * value[best]
        near = ((pixels - pixels[best]).abs() <= half_width).all(dim=1)
        value = value.masked_fill(near, -math.inf)
    return torch.stack(points) if points else pixels.new_zeros(0, 2)


def scaled(places: Tensor) -> Tensor:
    """Columns of [n, 3], each scaled to 0..1; a column of one value becomes 0."""
    if len(places) == 0:
        return places
    low, high = places.amin(dim=0), places.amax(dim=0)
    return (places - low) / torch.where(high > low, high - low, torch.ones_like(low))
