# SPDX-License-Identifier: Apache-2.0
"""Pixels at the edges of masks: there a step learns most, as in PointRend's training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

REACH = 2  # pixels on either side of an edge


def edge_positions(labels: Tensor, pixels: Tensor | None) -> Tensor:
    """Which of the kept pixels lie within REACH of a pixel of another label, [B] int64 ascending.

    `labels` [H, W]; `pixels` [R] int64, y * width + x, are those kept, None: all. -1, no target,
    is no label: where it begins is no edge.
    """
    known = labels >= 0
    edge = torch.zeros_like(known)
    rows = (labels[1:] != labels[:-1]) & known[1:] & known[:-1]
    columns = (labels[:, 1:] != labels[:, :-1]) & known[:, 1:] & known[:, :-1]
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= columns
    edge[:, :-1] |= columns
    near = max_pool2d(edge[None].float(), 2 * REACH - 1, stride=1, padding=REACH - 1)[0] > 0
    near = (near & known).flatten()
    return (near if pixels is None else near[pixels]).nonzero().flatten()
