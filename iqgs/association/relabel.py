# SPDX-License-Identifier: Apache-2.0
"""Label maps that agree with the tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from iqgs.association.lift import Ids, LiftedMasks
from iqgs.association.refine import Tracks

LOW_PRECISION, LOW_IOU = 0.5, 0.25  # a mask below both contradicts the other views
SOLID = 0.5  # a pixel of which no track holds more than this says nothing
FEWEST_PIXELS = 12  # a track needs so many inside a foreign mask to take them back
MOSTLY = 0.5  # a region that holds more than this share of a track's pixels has swallowed it

CELLS_AT_ONCE = 1 << 22
NOBODY, ZERO = -1, -2  # tracks of pixels: no target, id 0


@dataclass(frozen=True, eq=False)
class DrawnTracks:
    """One view rendered in tracks."""

    track: Ids  # [H, W] the track with the largest share of a pixel; -1: none
    share: NDArray[np.float32]  # [H, W] of the blending weight

    def at_size(self, height: int, width: int) -> DrawnTracks:
        """The same by nearest neighbour at another size of the view."""
        if self.track.shape == (height, width):
            return self
        rows = (np.arange(height) + 0.5) * self.track.shape[0] / height
        columns = (np.arange(width) + 0.5) * self.track.shape[1] / width
        at = np.ix_(rows.astype(np.int64), columns.astype(np.int64))
        return DrawnTracks(self.track[at], self.share[at])


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
    label_map: NDArray[np.integer],
    view: int,
    masks: LiftedMasks,
    tracks: Tracks,
    names: Ids,
    drawn: DrawnTracks,
) -> Relabelled:
    """The label map [H, W] of a view in the names of the tracks.

    `drawn` is the view rendered once more from the votes: pixels of id 0 and of foreign masks that
    hold most of a track's pixels go back to that track. Where id 0 says nothing (`masks.zero` all
    0), nothing is filled in.
    """
    index = masks.index_map(view, label_map)
    # What is no mask and not id 0 either is a sliver, or was never said.
    unread = np.where(label_map == 0, ZERO, NOBODY)
    target = np.where(index >= 0, tracks.track[np.maximum(index, 0)], unread)
    mine = masks.of_view(view)
    wrong = (tracks.precision[mine] < LOW_PRECISION) & (tracks.iou[mine] < LOW_IOU)
    dropped = mine[wrong]
    target[np.isin(index, dropped)] = NOBODY
    drawn = drawn.at_size(*label_map.shape)
    sure = (drawn.share > SOLID) & (drawn.track >= 0)
    area = np.bincount(drawn.track[sure], minlength=len(names))
    regions = [(int(tracks.track[m]), index == m) for m in mine[~wrong] if tracks.track[m] >= 0]
    if masks.zero.any():
        regions.insert(0, (ZERO, target == ZERO))
    for own, region in regions:
        covered = np.bincount(drawn.track[region & sure], minlength=len(names))
        swallowed = (covered >= FEWEST_PIXELS) & (covered > MOSTLY * np.maximum(area, 1))
        for track in np.flatnonzero(swallowed):
            if track != own:
                target[region & sure & (drawn.track == track)] = track
    labels = np.where(target >= 0, names[np.maximum(target, 0)], np.where(target == ZERO, 0, -1))
    return Relabelled(labels, int((labels != label_map).sum()), dropped)


def draw_tracks(
    weights: sparse.csr_matrix, shape: tuple[int, int], splats: Ids, count: int
) -> DrawnTracks:
    """Render a view [H, W] in tracks: `weights` [H W, N], `splats` [N] tracks 0..count-1 or -1."""
    known = np.flatnonzero(splats >= 0)
    one_hot = sparse.csr_matrix(
        (np.ones(len(known), np.float32), (known, splats[known])),
        shape=(len(splats), max(count, 1)),
    )
    shares = weights @ one_hot
    pixels = shares.shape[0]
    label, best = np.empty(pixels, np.int64), np.empty(pixels, np.float32)
    step = max(1, CELLS_AT_ONCE // max(count, 1))
    for first in range(0, pixels, step):
        part = slice(first, first + step)
        dense = shares[part].toarray()
        label[part] = dense.argmax(axis=1)
        best[part] = dense.max(axis=1)
    track = np.where(best > 0, label, -1)
    return DrawnTracks(track.reshape(shape), best.reshape(shape))
