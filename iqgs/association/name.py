# SPDX-License-Identifier: Apache-2.0
"""The id of every track: the one that its masks carried before a tracker lost it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iqgs.association.lift import Ids, LiftedMasks

MOSTLY = 0.5  # an id is mainly a track's when more than this share of its masks is in it
CLEARLY = 2.0  # or when it has so many times those in any other track
FEWEST_MASKS = 2  # an id of fewer is a slip
TOGETHER = 0.2  # ids that share more than this of their views are parts, not one after the other


def name_tracks(masks: LiftedMasks, track: Ids) -> Ids:
    """Numbers [K] of the tracks among the ids of the masks, each used once.

    Each track takes the id that most of its masks carry, the most frequent pair first. Where a
    tracker lost an object and gave it a new id for good, ids take turns: the track then takes the
    one of the earliest views, whatever the numbers are. An id that appears beside the other in the
    same views is that of a part, and names nothing. Tracks without an id of their own are numbered
    behind all others.
    """
    count = int(track.max(initial=-1)) + 1
    inside = track >= 0
    pairs, frequency = np.unique(
        np.stack([track[inside], masks.ids[inside]]), axis=1, return_counts=True
    )
    names: dict[int, int] = {}
    used: set[int] = set()
    for at in np.lexsort((pairs[1], pairs[0], -frequency)):
        which, number = int(pairs[0, at]), int(pairs[1, at])
        if which not in names and number not in used:
            names[which] = number
            used.add(number)
    every, total = np.unique(masks.ids, return_counts=True)
    of_id = dict(zip(every.tolist(), total.tolist(), strict=True))
    second = {
        number: int(np.sort(frequency[pairs[1] == number])[-2:][0])
        if (pairs[1] == number).sum() > 1
        else 0
        for number in of_id
    }
    for which, common in sorted(names.items()):
        here = pairs[0] == which
        own = [
            int(number)
            for number, c in zip(pairs[1, here], frequency[here], strict=True)
            if int(number) not in used and _is_own(int(c), of_id[int(number)], second[int(number)])
        ]
        oldest = _oldest(masks, track == which, common, own)
        if oldest != common:
            used.discard(common)
            used.add(oldest)
            names[which] = oldest
    following = max([0, *used, *of_id]) + 1
    result = np.zeros(count, np.int64)
    for which in range(count):
        result[which] = names.get(which, following)
        following += which not in names
    return result


def _is_own(here: int, total: int, second: int) -> bool:
    """Whether an id of `total` masks is mainly that of a track with `here` of them; no more than
    `second` are in any other.
    """
    if here > MOSTLY * total:
        return here >= FEWEST_MASKS
    return here > FEWEST_MASKS and here >= CLEARLY * second


def _oldest(masks: LiftedMasks, mine: NDArray[np.bool_], common: int, others: list[int]) -> int:
    """The id of the earliest views among the common one and those that took turns with it."""
    views = {
        number: np.unique(masks.view[mine & (masks.ids == number)]) for number in (common, *others)
    }
    turns = [common]
    for number in others:
        together = len(np.intersect1d(views[number], views[common]))
        if together <= TOGETHER * len(views[number]):
            turns.append(number)
    return min(turns, key=lambda number: (float(np.median(views[number])), number))
