# SPDX-License-Identifier: Apache-2.0
"""Label maps that agree with the tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from iqgs.association.lift import Ids, LiftedMasks, MaskView
from iqgs.association.refine import Tracks

LOW_PRECISION, LOW_IOU = 0.5, 0.25  # a mask below both contradicts the other views
SOLID = 0.5  # a pixel of which no track holds more than this says nothing
FEWEST_PIXELS = 12  # a track needs so many inside a foreign mask to take them back
MOSTLY = 0.5  # a region that holds more than this share of a track's pixels has swallowed it

CELLS_AT_ONCE = 1 << 22
NOBODY, ZERO = -1, -2  # tracks of pixels: no target, id 0


@dataclass(frozen=True, eq=False)
class Relabelled:
    """One view after the repair."""

    label_map: NDArray[np.int64]  # [H, W] names of tracks; 0: no instance; -1: no target
    changed: int  # pixels whose label is another one than before, by the names of the tracks
    dropped: Ids  # masks of this view that contradict the others


def track_labels(masks: LiftedMasks, track: Ids) -> Ids:
    """The track of every splat [N] by vote; -1 where id 0 or nothing wins."""
    count = int(track.max(initial=-1)) + 1
    kept = np.flatnonzero(track >= 0)
    joined = sparse.csr_matrix(
        (np.ones(len(kept), np.float32), (kept, track[kept])), shape=(len(track), max(count, 1))
    )
    votes = (masks.inside @ joined).tocsr()
    best = np.asarray(votes.max(axis=1).todense()).ravel()
    label = np.asarray(votes.argmax(axis=1)).ravel()
    return np.where(best > masks.zero, label, -1)


def relabel(
    view: MaskView, number: int, masks: LiftedMasks, tracks: Tracks, names: Ids, splats: Ids
) -> Relabelled:
    """The label map of view `number` in the names of the tracks.

    `splats` [N] are the tracks of the splats, from which the view is rendered once more: pixels of
    id 0 and of foreign masks that hold most of a track's pixels go back to that track. Where id 0
    says nothing (`masks.zero` all 0), nothing is filled in.
    """
    shape = view.label_map.shape
    index = masks.index_map(number, view.label_map)
    unread = np.where(
        np.asarray(view.label_map) == 0, ZERO, NOBODY
    )  # also slivers that are no mask
    target = np.where(index >= 0, tracks.track[np.maximum(index, 0)], unread)
    mine = masks.of_view(number)
    wrong = (tracks.precision[mine] < LOW_PRECISION) & (tracks.iou[mine] < LOW_IOU)
    dropped = mine[wrong]
    target[np.isin(index, dropped)] = NOBODY
    rendered, share = _render(view, splats, len(names))
    sure = (share > SOLID).reshape(shape)
    rendered = rendered.reshape(shape)
    area = np.bincount(rendered[sure & (rendered >= 0)], minlength=len(names))
    regions = [(int(tracks.track[m]), index == m) for m in mine[~wrong] if tracks.track[m] >= 0]
    if masks.zero.any():
        regions.insert(0, (ZERO, target == ZERO))
    for own, region in regions:
        covered = np.bincount(rendered[region & sure & (rendered >= 0)], minlength=len(names))
        swallowed = (covered >= FEWEST_PIXELS) & (covered > MOSTLY * np.maximum(area, 1))
        for track in np.flatnonzero(swallowed):
            if track != own:
                target[region & sure & (rendered == track)] = track
    labels = np.where(target >= 0, names[np.maximum(target, 0)], np.where(target == ZERO, 0, -1))
    changed = int((labels != np.asarray(view.label_map)).sum())
    return Relabelled(labels, changed, dropped)


def _render(view: MaskView, splats: Ids, count: int) -> tuple[Ids, NDArray[np.float32]]:
    """The track with the largest share of every pixel [P], -1 where there is none; its share."""
    known = np.flatnonzero(splats >= 0)
    one_hot = sparse.csr_matrix(
        (np.ones(len(known), np.float32), (known, splats[known])),
        shape=(len(splats), max(count, 1)),
    )
    shares = view.weights @ one_hot
    pixels = shares.shape[0]
    label, best = np.empty(pixels, np.int64), np.empty(pixels, np.float32)
    step = max(1, CELLS_AT_ONCE // max(count, 1))
    for first in range(0, pixels, step):
        part = slice(first, first + step)
        dense = shares[part].toarray()
        label[part] = dense.argmax(axis=1)
        best[part] = dense.max(axis=1)
    return np.where(best > 0, label, -1), best
