# SPDX-License-Identifier: Apache-2.0
"""From masks of many views to named tracks, in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iqgs.association.lift import Ids, LiftedMasks, MaskView, lift
from iqgs.association.name import name_tracks
from iqgs.association.refine import Tracks, drop_rare, drop_unsupported, refine
from iqgs.association.relabel import contradicting, track_labels
from iqgs.association.start import given_start, graph_start

STARTS = ("auto", "given", "graph")
IDS_SAY_SOMETHING = (
    0.6  # share of the masks that keep their id; else the ids are fresh in each view
)


@dataclass(frozen=True, eq=False)
class Association:
    """K tracks of the masks of a scene."""

    masks: LiftedMasks
    tracks: Tracks
    names: Ids  # [K] number of every track; of `given` start: among the ids of the masks
    splats: Ids  # [N] track of every splat; -1: none
    start: str  # given | graph

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
    them, and numbers the tracks anew; `auto` takes the ids unless hardly any of them survives.
    """
    if start not in STARTS:
        raise ValueError(f"start must be one of {STARTS}, got {start!r}")
    masks = lift(views, n_splats, zero_is_background)
    if start != "graph":
        found = _tracked(masks, given_start(masks), "given")
        if start == "given" or found.kept_ids >= IDS_SAY_SOMETHING:
            return found
    return _tracked(masks, graph_start(masks), "graph")


def _contradicted(masks: LiftedMasks, tracks: Tracks) -> NDArray[np.bool_]:
    """[M] whether the other views contradict a mask."""
    wrong = np.zeros(len(masks), bool)
    for view in range(masks.n_views):
        wrong[contradicting(masks, tracks, view)] = True
    return wrong


def _tracked(masks: LiftedMasks, first: Ids, start: str) -> Association:
    if not len(masks):
        nothing = np.zeros(0, np.float32)
        tracks = Tracks(first, nothing, nothing, nothing)
    else:
        tracks = _named(masks, drop_rare(refine(masks, first)), start)[0]
        tracks = drop_unsupported(tracks, _contradicted(masks, tracks))
    tracks, names = _named(masks, tracks, start)
    return Association(masks, tracks, names, track_labels(masks, tracks.track), start)


def _named(masks: LiftedMasks, tracks: Tracks, start: str) -> tuple[Tracks, Ids]:
    """The numbers of the tracks [K]; of `given` start with a note of which masks carry them."""
    if start == "graph":
        return tracks, np.arange(1, tracks.count + 1)
    names = name_tracks(masks, tracks.track)
    own = (tracks.track >= 0) & (np.append(names, 0)[tracks.track] == masks.ids)
    return replace(tracks, agrees=own), names
