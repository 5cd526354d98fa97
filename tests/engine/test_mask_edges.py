# SPDX-License-Identifier: Apache-2.0
"""Pixels at the edges of masks, against distances counted one by one."""

from __future__ import annotations

import itertools

import torch

from iqgs.engine.lifting.mask_edges import REACH, edge_positions
from iqgs.engine.lifting.weight_cache import EdgePixels, sample_pixels

from .test_weight_cache import HEIGHT, WIDTH, make_weights, view_of


def slowly(labels: torch.Tensor) -> list[int]:
    """Pixels with a label that are, or are within a step of, one beside a pixel of another."""
    height, width = labels.shape
    pixels = list(itertools.product(range(height), range(width)))

    def beside(y: int, x: int) -> bool:
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [labels[p] for p in around if 0 <= p[0] < height and 0 <= p[1] < width]
        return labels[y, x] >= 0 and any(n >= 0 and n != labels[y, x] for n in inside)

    edge = {p for p in pixels if beside(*p)}
    return [
        y * width + x
        for y, x in pixels
        if labels[y, x] >= 0 and any(max(abs(y - v), abs(x - u)) < REACH for v, u in edge)
    ]


def test_edges_are_where_another_label_is_near() -> None:
    labels = torch.zeros(9, 12, dtype=torch.int32)
    labels[2:5, 3:7] = 4
    labels[6, 10] = 2
    labels[0, :] = -1
    labels[:, 6] = -1  # hides an edge
    found = edge_positions(labels, None)
    assert found.tolist() == slowly(labels)
    kept = torch.arange(3, 108, 2)
    assert kept[edge_positions(labels, kept)].tolist() == [p for p in found.tolist() if p in kept]
    assert edge_positions(torch.full((4, 4), 7), None).tolist() == []


def test_a_share_of_the_pixels_comes_from_the_edges() -> None:
    view = view_of(make_weights())
    edges = EdgePixels(torch.arange(40, 60), share=0.5)
    counts = torch.zeros(WIDTH * HEIGHT)
    for seed in range(400):
        pixels = sample_pixels(view, 20, torch.Generator().manual_seed(seed), edges).pixels
        assert len(pixels.unique()) == len(pixels) and 10 <= len(pixels) <= 20
        counts[pixels] += 1
    inside = counts[40:60].mean() / 400  # 10 of these 20, and of those left over 10 in 280
    assert abs(float(inside) - (0.5 + 0.5 * 10 / 280)) < 0.02
    others = torch.cat([counts[:40], counts[60:]]).mean() / 400
    assert abs(float(others) - 10 / 280) < 0.005


def test_more_than_all_edges_is_all_of_them() -> None:
    view = view_of(make_weights())
    edges = EdgePixels(torch.arange(3), share=0.9)
    pixels = sample_pixels(view, 30, torch.Generator().manual_seed(0), edges).pixels
    assert {0, 1, 2} <= set(pixels.tolist()) and 27 <= len(pixels) <= 30
