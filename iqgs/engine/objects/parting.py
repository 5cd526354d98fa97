# SPDX-License-Identifier: Apache-2.0
"""Parts of an object, found by what its splats contribute to the run's training views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.objects.decisions import read_decisions, write_decisions
from iqgs.engine.run import Run, spread_cameras
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
    size = int(node.max()) + 1
    at = np.full(len(objects), -1, np.int64)  # the node of each splat of the scene
    at[(objects.labels == number).numpy()] = node
    shared = sparse.csr_matrix((size, size), dtype=np.float64)
    cameras = spread_cameras(run) or run.cameras.test
    for camera in tqdm(cameras, desc="Relating splats", disable=quiet, leave=False):
        weights = run.renderer.lens(camera, objects.splats).weights(MIN_WEIGHT)
        column = at[weights.splat.cpu().numpy()]
        mine = column >= 0
        pixel = np.repeat(np.arange(len(weights.row_start) - 1), np.diff(weights.row_start.cpu()))
        entries = (weights.weight.cpu().numpy()[mine], (pixel[mine], column[mine]))
        shape = (len(weights.row_start) - 1, size)
        seen = sparse.coo_matrix(entries, shape=shape, dtype=np.float64).tocsr()
        shared = shared + seen.T @ seen
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
