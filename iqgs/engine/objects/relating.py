# SPDX-License-Identifier: Apache-2.0
"""Which splats of a run are seen in the same pixels, by nodes: sets of them that count as one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.run import Run, spread_cameras
from iqgs.objects.granularity import Nodes
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import first_nodes
from scene.cameras import Camera
from utils.progress import tqdm

MOST_NODES = 30_000  # of all objects together
FEWEST_NODES, MOST_OF_ONE = 60, 1000  # of one object
LONGER_SIDE = 400  # pixels in which splats are related where all objects are


@torch.no_grad()
def seen_nodes(
    run: Run, objects: LabelledSplats, node: NDArray[np.int64], camera: Camera
) -> sparse.csr_matrix:
    """Blending weights [P, m] of the nodes in the pixels of a view; `node` [N], -1 = none."""
    weights = run.renderer.lens(camera, objects.splats).weights(MIN_WEIGHT)
    column = node[weights.splat.cpu().numpy()]
    mine = column >= 0
    start = weights.row_start.cpu().numpy()
    pixel = np.repeat(np.arange(len(start) - 1), np.diff(start))
    entries = (weights.weight.cpu().numpy()[mine], (pixel[mine], column[mine]))
    shape = (len(start) - 1, int(node.max(initial=-1)) + 1)
    return sparse.coo_matrix(entries, shape=shape, dtype=np.float64).tocsr()


def shared_pixels(
    run: Run, objects: LabelledSplats, node: NDArray[np.int64], quiet: bool, side: int = 0
) -> sparse.csr_matrix:
    """The sum of W^T W [m, m] over the views that stand for all; with `side` at most so large."""
    size = int(node.max(initial=-1)) + 1
    shared = sparse.csr_matrix((size, size), dtype=np.float64)
    cameras = spread_cameras(run) or run.cameras.test
    for camera in tqdm(cameras, desc="Relating splats", disable=quiet, leave=False):
        seen = seen_nodes(run, objects, node, reduced(camera, side) if side else camera)
        shared = shared + seen.T @ seen
    return shared


def reduced(camera: Camera, side: int) -> Camera:
    """The same camera with at most so many pixels a side."""
    share = min(1.0, side / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * share)), max(1, round(camera.height * share)))


def nodes_of(objects: LabelledSplats) -> Nodes:
    """Nodes of all objects; a large one has more, and its cells are what its nodes are."""
    labels = objects.labels.numpy()
    means = objects.splats.means.detach().cpu().numpy().astype(np.float64)
    found = np.full(len(labels), -1, np.int64)
    owner: list[NDArray[np.int64]] = []
    count = 0
    rows = list(_rows_of(labels))
    most = min(MOST_OF_ONE, max(FEWEST_NODES, MOST_NODES // max(len(rows), 1)))
    for number, mine in rows:
        node = first_nodes(means[mine], most)
        size = int(node.max()) + 1
        found[mine] = node + count
        owner.append(np.full(size, number, np.int64))
        count += size
    inside = found >= 0
    amount = np.bincount(found[inside], minlength=count)
    center = [np.bincount(found[inside], means[inside, k], count) / amount for k in range(3)]
    return Nodes(found, np.concatenate(owner or [np.zeros(0, np.int64)]), np.stack(center, axis=1))


def _rows_of(labels: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each object with the rows of its splats."""
    order = np.argsort(labels, kind="stable")
    numbers, first = np.unique(labels[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, first[1:]), strict=True):
        if number:
            yield number, rows
