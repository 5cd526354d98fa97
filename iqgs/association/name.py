# SPDX-License-Identifier: Apache-2.0
"""The id of every track: the one that its masks carried first, each id used once."""

from __future__ import annotations

import numpy as np

from iqgs.association.lift import Ids, LiftedMasks

MOSTLY = 0.5  # an id is mainly a track's when more than this share of its masks is in it


def name_tracks(masks: LiftedMasks, track: Ids) -> Ids:
    """Numbers [K] of the tracks among the ids of the masks.

    Each track takes the id that most of its masks carry, the most frequent pair first. Where a
    tracker lost an object and numbered it anew, the track then takes the oldest (smallest) id that
    is mainly its own. Tracks that get none are numbered behind all others.
    """
    count = int(track.max(initial=-1)) + 1
    inside = track >= 0
    pairs, frequency = np.unique(
        np.stack([track[inside], masks.ids[inside]]), axis=1, return_counts=True
    )
    of_id = {int(i): int(c) for i, c in zip(*np.unique(masks.ids, return_counts=True), strict=True)}
    names: dict[int, int] = {}
    used: set[int] = set()
    for at in np.lexsort((pairs[1], pairs[0], -frequency)):
        which, number = int(pairs[0, at]), int(pairs[1, at])
        if which not in names and number not in used:
            names[which] = number
            used.add(number)
    for which in sorted(names):
        mine = pairs[0] == which
        own = [
            int(number)
            for number, c in zip(pairs[1, mine], frequency[mine], strict=True)
            if number == names[which]
            or (c >= 2 and c > MOSTLY * of_id[int(number)] and int(number) not in used)
        ]
        oldest = min(own)
        if oldest != names[which]:
            used.discard(names[which])
            used.add(oldest)
            names[which] = oldest
    following = max([0, *used, *of_id]) + 1
    result = np.zeros(count, np.int64)
    for which in range(count):
        if which in names:
            result[which] = names[which]
        else:
            result[which] = following
            following += 1
    return result
