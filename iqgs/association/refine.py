# SPDX-License-Identifier: Apache-2.0
"""Tracks made better: every mask goes to the track that the other views name for its splats."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from iqgs.association.lift import Ids, LiftedMasks

ROUNDS = 6
BLOCKS = 12  # of views that are judged by the same votes, in a round
WHOLE_IOU = 0.2  # a mask below this IoU with every track is a part of one at most
PART_PRECISION = 0.7  # a part follows the track that owns this share of it
NOTHING = 1e-6  # weight below which a splat has no vote
MOSTLY_SEEN = 0.5  # of a mask: then other views can contradict it


@dataclass(frozen=True, eq=False)
class Tracks:
    """The track of every mask, and how well the other views agree."""

    track: Ids  # [M] 0..K-1; -1: no evidence
    precision: NDArray[np.float32]  # [M] share of the mask that others give to its track
    iou: NDArray[np.float32]  # [M] IoU with what others give to its track in this view
    evidence: NDArray[np.float32]  # [M] share of the mask of which other views say anything
    agrees: NDArray[np.bool_] | None = (
        None  # [M] whether its id names the track; None: ids are fresh
    )

    @property
    def count(self) -> int:
        """K."""
        return int(self.track.max(initial=-1)) + 1


def refine(masks: LiftedMasks, start: Ids, rounds: int = ROUNDS) -> Tracks:
    """Reassign masks until nothing changes.

    A track's claim on a splat is its share q of the votes of all masks outside of the view (with
    them masks would confirm themselves). A mask goes to the track of best IoU; where that is no
    whole object it follows, as a part, the track that owns most of it. Precision alone would let
    thin objects be swallowed by what they lie on.
    """
    tracks = _unjudged(start)
    for _ in range(rounds):
        better = _one_round(masks, tracks.track)
        renumbered = np.unique(better.track, return_inverse=True)[1].astype(np.int64)
        changed = bool((better.track != tracks.track).any())
        tracks = replace(better, track=renumbered)
        if not changed:
            break
    return tracks


def _unjudged(track: Ids) -> Tracks:
    nothing = np.zeros(len(track), np.float32)
    return Tracks(track, nothing, nothing.copy(), nothing.copy())


def _one_round(masks: LiftedMasks, track: Ids) -> Tracks:
    """Every mask once, a few neighbouring views at a time: views that all decided at once would
    swap the two halves of a broken track for ever.
    """
    result = _unjudged(track.copy())
    count = int(track.max()) + 1
    for views in np.array_split(np.arange(masks.n_views), min(BLOCKS, masks.n_views)):
        joined = sparse.csr_matrix(
            (np.ones(len(track), np.float32), (np.arange(len(track)), result.track)),
            shape=(len(track), count),
        )
        votes = (masks.inside @ joined).tocsr()
        for view in views:
            mine = masks.of_view(int(view))
            if len(mine):
                _judge_view(masks, votes, joined, mine, result)
    return result


def _judge_view(
    masks: LiftedMasks, votes: sparse.csr_matrix, joined: sparse.csr_matrix, mine: Ids, out: Tracks
) -> None:
    """Choose the tracks of one view's masks by the votes of all others; writes into `out`."""
    shown = masks.visible[:, int(masks.view[mine[0]])].tocoo()
    rows, weight = shown.row, shown.data
    inside = masks.inside[:, mine][rows]  # [n, m] of the splats that this view shows
    others = votes[rows] - inside @ joined[mine]
    total = np.asarray(others.sum(axis=1)).ravel() + masks.zero[rows]
    known = total > NOTHING
    share = sparse.diags((known / np.maximum(total, NOTHING)).astype(np.float32)) @ others
    both = np.asarray((inside.T @ share).todense())  # [m, K]
    area = np.asarray(inside.T @ known.astype(np.float32)).ravel()[:, None]
    whole = np.maximum(np.asarray(inside.sum(axis=0)).ravel(), NOTHING)
    visible = np.asarray(share.T @ weight).ravel()[None]
    precision = both / np.maximum(area, 1e-9)
    iou = both / np.maximum(area + visible - both, 1e-9)
    part = iou.max(axis=1) < WHOLE_IOU
    best = np.where(part, precision.argmax(axis=1), iou.argmax(axis=1))
    sure = np.where(part, precision.max(axis=1) > PART_PRECISION, True) & (area[:, 0] > 0)
    chosen = np.where(sure, best, out.track[mine])
    at = np.arange(len(mine))
    out.track[mine] = chosen
    out.precision[mine] = precision[at, chosen]
    out.iou[mine] = iou[at, chosen]
    out.evidence[mine] = area[:, 0] / whole


def drop_rare(tracks: Tracks, least: int = 2) -> Tracks:
    """Tracks of fewer masks that other views contradict are slips: their masks get -1, the other
    tracks are renumbered. What no other view shows stays.
    """
    size = np.bincount(tracks.track[tracks.track >= 0], minlength=tracks.count)
    rare = (tracks.track < 0) | (size[np.maximum(tracks.track, 0)] < least)
    rare &= (tracks.track < 0) | (tracks.evidence >= MOSTLY_SEEN)
    return _without(tracks, rare)


def drop_unsupported(tracks: Tracks, contradicted: NDArray[np.bool_]) -> Tracks:
    """Tracks of which no mask is left once those that other views contradict [M] are set aside:
    slips that a tracker made more than once.
    """
    kept = np.bincount(tracks.track[(tracks.track >= 0) & ~contradicted], minlength=tracks.count)
    return _without(tracks, (tracks.track < 0) | (kept[np.maximum(tracks.track, 0)] == 0))


def dissolve(masks: LiftedMasks, tracks: Tracks, weak: NDArray[np.bool_]) -> Ids:
    """A start without some tracks [K]: their masks go to the tracks of others that share most of
    their splats; those that share none, and what had no track, stay alone.
    """
    kept = (tracks.track >= 0) & ~weak[np.maximum(tracks.track, 0)]
    label, rows, rest = tracks.track.copy(), np.flatnonzero(kept), np.flatnonzero(~kept)
    joined = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, label[rows])), shape=(len(label), tracks.count)
    )
    shared = (masks.inside[:, rest].T @ (masks.inside @ joined)).toarray()
    found = shared.max(axis=1, initial=0) > 0
    alone = tracks.count + np.arange(len(rest))
    label[rest] = np.where(found, shared.argmax(axis=1), alone)
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _without(tracks: Tracks, left_out: NDArray[np.bool_]) -> Tracks:
    """These masks [M] get -1, the tracks of the others are renumbered."""
    renumbered = np.full(len(tracks.track), -1, np.int64)
    renumbered[~left_out] = np.unique(tracks.track[~left_out], return_inverse=True)[1]
    return replace(tracks, track=renumbered)
