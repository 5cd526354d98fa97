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
AGREEING = 0.3  # of the precision is enough where the mask's own id speaks for its track
SOLID = 0.5  # a pixel of which no track holds more than this says nothing
FEWEST_PIXELS = 12  # a track needs so many inside a foreign mask to take them back
MOSTLY = 0.5  # a region that holds more than this share of a track's pixels has swallowed it

CELLS_AT_ONCE = 1 << 22
NOBODY, ZERO = -1, -2  # tracks of pixels: no target, id 0


@dataclass(frozen=True, eq=False)
class DrawnTracks:
    """Pixels of a view rendered in tracks: all of them, or a sample."""

    track: Ids  # [H, W] or [P] the track with the largest share of a pixel; -1: none
    share: NDArray[np.float32]  # the same shape: of the blending weight

    def at_size(self, height: int, width: int) -> DrawnTracks:
        """The whole view by nearest neighbour at another size."""
        if self.track.shape == (height, width):
            return self
        rows = (np.arange(height) + 0.5) * self.track.shape[0] / height
        columns = (np.arange(width) + 0.5) * self.track.shape[1] / width
        at = np.ix_(rows.astype(np.int64), columns.astype(np.int64))
        return DrawnTracks(self.track[at], self.share[at])


@dataclass(frozen=True)
class Swallowed:
    """A track whose pixels lie for the most part in a region that is not its own."""

    region: int  # the mask that swallowed it; ZERO: nobody drew it here
    track: int


@dataclass(frozen=True, eq=False)
class Relabelled:
    """One view after the repair."""

    label_map: NDArray[np.int64]  # [H, W] names of tracks; 0: no instance; -1: no target
    renamed: int  # pixels whose number is another one than before
    changed: int  # pixels that are not of their mask's track any more, or of no track
    swallowed: list[Swallowed]  # what was given back


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


def contradicting(masks: LiftedMasks, tracks: Tracks, view: int) -> Ids:
    """The masks of a view that the other views contradict: nothing is to be learned from them."""
    mine = masks.of_view(view)
    least = np.full(len(mine), LOW_PRECISION)
    if tracks.agrees is not None:
        least[tracks.agrees[mine]] *= AGREEING
    wrong = (tracks.precision[mine] < least) & (tracks.iou[mine] < LOW_IOU)
    return mine[wrong & (tracks.evidence[mine] > 0)]


@dataclass(frozen=True, eq=False)
class _Regions:
    """The pixels of a view by masks and by tracks, in any shape."""

    index: Ids  # the mask of a pixel, -1: none
    own: Ids  # its track, NOBODY or ZERO
    target: Ids  # the same without the masks that the other views contradict


def _regions(
    labels: NDArray[np.integer], view: int, masks: LiftedMasks, tracks: Tracks, names: Ids
) -> _Regions:
    index = masks.index_map(view, labels)
    unread = np.where(labels == 0, ZERO, NOBODY)
    if tracks.agrees is not None and len(names):  # slivers were not lifted: their ids may be right
        order = np.argsort(names)
        at = order[np.searchsorted(names, labels, sorter=order).clip(max=len(names) - 1)]
        unread = np.where((names[at] == labels) & (labels > 0), at, unread)
    own = np.where(index >= 0, tracks.track[np.maximum(index, 0)], unread)
    wrong = np.isin(index, contradicting(masks, tracks, view))
    return _Regions(index, own, np.where(wrong, NOBODY, own))


def _find_swallowed(
    found: _Regions, masks: LiftedMasks, tracks: Tracks, drawn: DrawnTracks, least: float
) -> list[Swallowed]:
    """In the order in which they are given back."""
    sure = (drawn.share > SOLID) & (drawn.track >= 0)
    seen = drawn.track[sure]
    area = np.bincount(seen, minlength=tracks.count)
    region = np.where(found.index >= 0, found.index, ZERO)[sure]
    own = found.target[sure]
    # Where id 0 says nothing there is nothing to fill in.
    speaks = (own != NOBODY) & ((own != ZERO) | bool(masks.zero.any())) & (seen != own)
    keys, count = np.unique(np.stack([region[speaks], seen[speaks]]), axis=1, return_counts=True)
    most = (count >= least) & (count > MOSTLY * np.maximum(area[keys[1]], 1))
    return [Swallowed(int(r), int(t)) for r, t in keys[:, most].T]


def relabel(
    label_map: NDArray[np.integer],
    view: int,
    masks: LiftedMasks,
    tracks: Tracks,
    names: Ids,
    drawn: DrawnTracks | None,
    sampled: float = 1.0,
) -> Relabelled:
    """The label map [H, W] of a view in the names of the tracks.

    Or the labels [P] of some of its pixels, `sampled` of all, with the tracks drawn there.

    `drawn` is the view rendered once more from the votes: pixels of id 0 and of foreign masks that
    hold most of a track's pixels go back to that track. None: masks are renamed and no more. Where
    id 0 says nothing (`masks.zero` all 0), nothing is filled in.
    """
    found = _regions(label_map, view, masks, tracks, names)
    target, swallowed = found.target.copy(), []
    if drawn is not None:
        drawn = drawn if label_map.ndim == 1 else drawn.at_size(*label_map.shape)
        sure = (drawn.share > SOLID) & (drawn.track >= 0)
        swallowed = _find_swallowed(found, masks, tracks, drawn, sampled * FEWEST_PIXELS)
        for item in swallowed:
            inside = found.target == ZERO if item.region == ZERO else found.index == item.region
            target[inside & sure & (drawn.track == item.track)] = item.track
    labels = np.where(target >= 0, names[np.maximum(target, 0)], np.where(target == ZERO, 0, -1))
    changed = (target != found.own) | ((target == NOBODY) & (label_map != NOBODY))
    renamed = int((labels != label_map).sum())
    return Relabelled(labels, renamed, int(changed.sum()), swallowed)


def draw_tracks(weights: sparse.csr_matrix, splats: Ids, count: int) -> DrawnTracks:
    """Render pixels in tracks: `weights` [P, N], `splats` [N] tracks 0..count-1 or -1."""
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
    return DrawnTracks(np.where(best > 0, label, -1), best)
