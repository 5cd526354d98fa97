# SPDX-License-Identifier: Apache-2.0
"""Parts of an object, found by what its splats contribute to the run's training views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iqgs.engine.objects.decisions import read_decisions, write_decisions
from iqgs.engine.objects.relating import shared_pixels
from iqgs.engine.run import Run
from iqgs.objects.edits import Numbers, Parts
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import first_nodes, part_tree
from utils.errors import UserError


@torch.no_grad()
def find_pieces(run: Run, objects: LabelledSplats, number: int, count: int, quiet: bool) -> Tensor:
    """The part [n] int64 of each splat of an object, 0 the largest. UserError where the object
    has no parts to tell apart.
    """
    part = objects.of(number)
    means = part.splats.means.detach().cpu().numpy().astype(np.float64)
    node = first_nodes(means)
    at = np.full(len(objects), -1, np.int64)  # the node of each splat of the scene
    at[(objects.labels == number).numpy()] = node
    shared = shared_pixels(run, objects, at, quiet)
    pieces = part_tree(part.splats, node, shared).pieces(means, count)
    if not pieces.any():
        raise UserError(f"object {number} has no parts that could be told apart")
    return torch.from_numpy(pieces)


def write_pieces(folder: Path, number: int, numbers: Numbers, piece: Tensor) -> Parts:
    """Write the parts of an object into a run's folder; returns the edit that names them."""
    arrays = {"piece": piece.numpy().astype(np.int32)}
    return Parts(number, numbers, *write_decisions(folder, "parts", arrays))


def read_pieces(folder: Path, edit: Parts) -> Tensor:
    """The part [n] int64 of each splat. DataError where the file is missing or was changed."""
    return torch.from_numpy(read_decisions(folder, edit)["piece"].astype(np.int64))
