# SPDX-License-Identifier: Apache-2.0
"""Boxes (left, top, right, bottom) of masks, and which of many that overlap stay."""

from __future__ import annotations

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Areas [N] of boxes [N, 4]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def mask_boxes(masks: Tensor) -> Tensor:
    """Smallest boxes [N, 4] (float, edges of pixels) round masks [N, H, W]; 0 where empty."""
    count, height, width = masks.shape
    rows, columns = masks.any(dim=2), masks.any(dim=1)
    edges = []
    for inside, size in ((columns, width), (rows, height)):
        places = torch.arange(size, device=masks.device).expand(count, size)
        low = torch.where(inside, places, size).amin(dim=1)
        high = torch.where(inside, places + 1, 0).amax(dim=1)
        edges.append((torch.where(high > 0, low, 0), high))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=1).float()


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Positions of the boxes [N, 4] that non-maximum suppression keeps, the best first.

    Taken in the order of their scores [N] (among equals the earlier), a box removes those whose IoU
    with it is larger than the threshold.
    """
    # A thousand small steps: quicker without a device's latency.
    order = torch.argsort(scores, descending=True, stable=True).cpu()
    boxes = boxes.detach().float().cpu()[order]
    areas = box_area(boxes)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    kept = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        kept.append(index)
        rest = slice(index + 1, None)
        low = torch.maximum(boxes[index, :2], boxes[rest, :2])
        high = torch.minimum(boxes[index, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(dim=1)
        union = areas[index] + areas[rest] - common
        alive[rest] &= common <= threshold * union
    return order[torch.tensor(kept, dtype=torch.long)].to(scores.device)


def suppress_groups(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """The same where only boxes of one group [N] remove each other, over all groups."""
    kept = []
    for group in torch.unique(groups):
        members = torch.nonzero(groups == group).flatten().to(boxes.device)
        kept.append(members[suppress(boxes[members], scores[members], threshold)])
    if not kept:
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    found = torch.cat(kept)
    return found[torch.argsort(scores[found], descending=True, stable=True)]
