# SPDX-License-Identifier: Apache-2.0
"""From masks of many views to named tracks, in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iqgs.association.lift import Ids, LiftedMasks, MaskView, lift
from iqgs.association.name import name_tracks
from iqgs.association.refine import Tracks, dissolve, drop_rare, drop_unsupported, refine
from iqgs.association.relabel import contradicting, track_labels
from iqgs.association.start import given_start, graph_starts

STARTS = ("auto", "given", "graph")
# Shares of the masks that keep their id. From the first on the ids are a good start; between the
# two it is tried whether tracks are better found without them; below they are fresh in each view.
IDS_TO_START_FROM, IDS_TO_NAME_BY = 0.7, 0.55
MOSTLY_WRONG = 0.6  # of the masks of a track that is none


@dataclass(frozen=True, eq=False)
class Association:
    """K tracks of the masks of a scene."""

    masks: LiftedMasks
    tracks: Tracks
    names: Ids  # [K] number of every track; of `given` start: among the ids of the masks
    splats: Ids  # [N] track of every splat; -1: none
    start: str  # given: tracks have their names among the ids | graph: numbered anew

    @property
    def confidence(self) -> NDArray[np.float32]:
        """[K] share of a track's pixels that the other views give to it, where they say anything.

        0 for tracks that no second view shows.
        """
        kept = self.tracks.track >= 0
        track = self.tracks.track[kept]
        said = self.masks.area[kept] * self.tracks.evidence[kept]
        total = np.bincount(track, weights=said, minlength=self.tracks.count)
        agreed = said * self.tracks.precision[kept]
        share = np.bincount(track, weights=agreed, minlength=self.tracks.count)
        return (share / np.maximum(total, 1e-9)).astype(np.float32)

    @property
    def kept_ids(self) -> float:
        """Share of the masks whose own ids name their tracks, and which no views contradict."""
        if self.tracks.agrees is None or not len(self.masks):
            return float(not len(self.masks))
        return float((self.tracks.agrees & ~_contradicted(self.masks, self.tracks)).mean())


def associate(
    views: Iterable[MaskView], n_splats: int, zero_is_background: bool, start: str = "auto"
) -> Association:
    """Find the tracks of all masks.

    start: `given` trusts the ids where views do not contradict them; `graph` does not look at
    them, and numbers the tracks anew; `auto` takes the ids where most of them survive, looks for
    better tracks where many do not, and numbers anew where hardly any does.
    """
    if start not in STARTS:
        raise ValueError(f"start must be one of {STARTS}, got {start!r}")
    masks = lift(views, n_splats, zero_is_background)
    if not len(masks):
        nothing = np.zeros(0, np.float32)
        none = Tracks(np.zeros(0, np.int64), nothing, nothing, nothing)
        return _finished(masks, none, "graph" if start == "graph" else "given")
    guesses = []
    if start != "graph":
        guesses.append(_refined(masks, given_start(masks)))
        found = _finished(masks, guesses[0], "given")
        if start == "given" or found.kept_ids >= IDS_TO_START_FROM:
            return found
    graphs = [_refined(masks, first) for first in graph_starts(masks)]
    if start == "auto":
        best = max((*guesses, *graphs), key=lambda tracks: agreement(masks, tracks))
        found = _finished(masks, best, "given")
        if found.kept_ids >= IDS_TO_NAME_BY:
            return found
    best = max(graphs, key=lambda tracks: agreement(masks, tracks))
    return _finished(masks, best, "graph")


def agreement(masks: LiftedMasks, tracks: Tracks) -> float:
    """Mean IoU of the masks with what other views give to their tracks, whatever their ids say; 0
    for masks that these contradict.
    """
    unnamed = replace(tracks, agrees=None)
    lost = (tracks.track < 0) | _contradicted(masks, unnamed)
    return float(np.where(lost, 0, tracks.iou).mean())


def _contradicted(masks: LiftedMasks, tracks: Tracks) -> NDArray[np.bool_]:
    """[M] whether the other views contradict a mask."""
    wrong = np.zeros(len(masks), bool)
    for view in range(masks.n_views):
        wrong[contradicting(masks, tracks, view)] = True
    return wrong


def _refined(masks: LiftedMasks, first: Ids) -> Tracks:
    return drop_rare(refine(masks, first))


def _finished(masks: LiftedMasks, tracks: Tracks, start: str) -> Association:
    """With names, and without tracks that only contradicted masks have."""
    if len(masks):
        tracks = _without_weak(masks, _named(masks, tracks, start)[0], start)
        tracks = drop_unsupported(tracks, _contradicted(masks, tracks))
    tracks, names = _named(masks, tracks, start)
    return Association(masks, tracks, names, track_labels(masks, tracks.track), start)


def _without_weak(masks: LiftedMasks, tracks: Tracks, start: str) -> Tracks:
    """Without tracks whose masks the views contradict for the most part, where all agree no less
    then: they are second tracks of objects that have one.
    """
    kept = tracks.track >= 0
    wrong = np.bincount(tracks.track[kept & _contradicted(masks, tracks)], minlength=tracks.count)
    weak = wrong > MOSTLY_WRONG * np.bincount(tracks.track[kept], minlength=tracks.count)
    if not weak.any() or weak.all():
        return tracks
    other = _refined(masks, dissolve(masks, tracks, weak))
    if agreement(masks, other) < agreement(masks, tracks):
        return tracks
    return _named(masks, other, start)[0]


def _named(masks: LiftedMasks, tracks: Tracks, start: str) -> tuple[Tracks, Ids]:
    """The numbers of the tracks [K]; of `given` start with a note of which masks carry them."""
    if start == "graph":
        return tracks, np.arange(1, tracks.count + 1)
    names = name_tracks(masks, tracks.track)
    own = (tracks.track >= 0) & (np.append(names, 0)[tracks.track] == masks.ids)
    return replace(tracks, agrees=own), names
