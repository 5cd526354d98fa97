# SPDX-License-Identifier: Apache-2.0
"""Boxes of masks and non-maximum suppression, against slow loops."""

from __future__ import annotations

import numpy as np
import torch

from iqgs.preparation.proposals.boxes import box_area, mask_boxes, suppress, suppress_groups


def some_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand((count, 2), generator=generator) * 20
    return torch.cat([corner, corner + 1 + torch.rand((count, 2), generator=generator) * 9], dim=1)


def slow_iou(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def slow_suppress(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        if all(slow_iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


def test_boxes_hug_their_masks() -> None:
    rng = np.random.default_rng(1)
    masks = rng.random((20, 9, 13)) > 0.9
    masks[3] = False
    found = mask_boxes(torch.from_numpy(masks))
    for mask, box in zip(masks, found.tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        expected = [0.0, 0.0, 0.0, 0.0]
        if rows.size:
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == expected


def test_suppression_is_that_of_the_slow_loop() -> None:
    for seed in range(10):
        boxes = some_boxes(40, seed)
        scores = torch.rand(40, generator=torch.Generator().manual_seed(100 + seed))
        for threshold in (0.1, 0.5, 0.9):
            expected = slow_suppress(boxes.tolist(), scores.tolist(), threshold)
            assert suppress(boxes, scores, threshold).tolist() == expected


def test_of_equal_boxes_the_earlier_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]])
    assert suppress(boxes, torch.ones(3), 0.7).tolist() == [0]
    assert suppress(boxes, torch.tensor([0.1, 0.3, 0.2]), 0.7).tolist() == [1]
    assert suppress(boxes[:0], torch.ones(0), 0.7).tolist() == []


def test_groups_do_not_compete() -> None:
    boxes, scores = some_boxes(30, 3), torch.linspace(0, 1, 30)
    groups = torch.arange(30) % 3
    kept = suppress_groups(boxes, scores, groups, 0.2).tolist()
    expected = []
    for group in range(3):
        members = [k for k in range(30) if k % 3 == group]
        some = slow_suppress(boxes[members].tolist(), scores[members].tolist(), 0.2)
        expected += [members[k] for k in some]
    assert kept == sorted(expected, key=lambda k: -float(scores[k]))
    assert suppress_groups(boxes[:0], scores[:0], groups[:0], 0.2).tolist() == []


def test_area() -> None:
    assert box_area(torch.tensor([[1.0, 2, 4, 7]])).tolist() == [15.0]
