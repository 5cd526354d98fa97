# SPDX-License-Identifier: Apache-2.0
"""Label maps of the scored views, kept small, and with predictions called by their true partners.

A report shows pictures of the worst views and objects, and which these are is known at the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iqgs.evaluation.overlap import best_assignment, comparable_pair, count_overlap

Ids = NDArray[np.integer]
UNMATCHED = -1  # a prediction without a partner


@dataclass(frozen=True)
class KeptMaps:
    """Prediction and truth of one view, int32 [H, W], deflated: some kilobytes."""

    shape: tuple[int, int]
    packed: bytes

    @classmethod
    def of(cls, prediction: Ids, truth: Ids) -> KeptMaps:
        """Keep the two maps of a view as they are scored, before anything is left out."""
        height, width = truth.shape
        both = np.stack([prediction, truth]).astype(np.int32)
        return cls((height, width), zlib.compress(both.tobytes(), 1))

    def maps(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(prediction, truth)."""
        both = np.frombuffer(zlib.decompress(self.packed), np.int32).reshape(2, *self.shape)
        return both[0], both[1]


@dataclass(frozen=True)
class Matching:
    """How predicted ids find true ones, as the scores of a run did it."""

    kind: str  # id | view | scene
    zero_label: str
    min_area: int
    assignment: Mapping[int, int]  # of the whole scene; empty unless kind is scene

    def apply(self, kept: KeptMaps) -> tuple[Ids, Ids]:
        """(prediction in true ids, truth) [H, W] int64; UNMATCHED where there is no partner.

        Pixels that are not scored are 0 on both sides.
        """
        prediction, truth = comparable_pair(
            *kept.maps(), self.zero_label, min_true=self.min_area, min_predicted=self.min_area
        )
        ids, position = np.unique(prediction, return_inverse=True)
        partner = self._partners(prediction, truth)
        called = [0 if i == 0 else partner.get(int(i), UNMATCHED) for i in ids]
        return np.array(called, np.int64)[position].reshape(truth.shape), truth

    def _partners(self, prediction: Ids, truth: Ids) -> Mapping[int, int]:
        if self.kind == "scene":
            return self.assignment
        if self.kind == "view":
            return best_assignment(count_overlap(prediction, truth))
        return {int(i): int(i) for i in np.unique(prediction)}


@dataclass(frozen=True)
class ViewMatch:
    """One view: prediction in true ids and truth, [H, W]."""

    name: str
    called: Ids
    truth: Ids

    def iou(self, number: int) -> float:
        """Of one object; 0 where it is neither here nor there."""
        mine, its = self.called == number, self.truth == number
        return float((mine & its).sum() / max((mine | its).sum(), 1))


def matched_views(maps: Mapping[str, KeptMaps], matching: Matching) -> Iterator[ViewMatch]:
    """The views, one after the other: unpacked they are large."""
    for name, kept in maps.items():
        yield ViewMatch(name, *matching.apply(kept))


@dataclass(frozen=True)
class Confusion:
    """Pixels of all views by true object (rows) and what they are called (columns).

    Rows: 0 (no object), then `objects`. Columns: 0 (nothing), `objects`, then what has no partner.
    """

    objects: tuple[int, ...]
    pixels: NDArray[np.int64]  # [K + 1, K + 2]

    @classmethod
    def of(cls, maps: Mapping[str, KeptMaps], matching: Matching) -> Confusion:
        """Count all views."""
        truths = [np.unique(kept.maps()[1]) for kept in maps.values()]
        present = np.unique(np.concatenate([np.zeros(0, np.int32), *truths]))
        objects = tuple(int(i) for i in present if i > 0)
        known = np.array((0, *objects), np.int64)
        pixels = np.zeros((len(known), len(known) + 1), np.int64)
        for view in matched_views(maps, matching):
            rows = np.searchsorted(known, view.truth.ravel())
            called = view.called.ravel()
            columns = np.searchsorted(known, called.clip(0)).clip(0, len(known) - 1)
            # A call of an object that no view truly shows has no partner either.
            columns = np.where(known[columns] == called, columns, len(known))
            flat = np.bincount(rows * pixels.shape[1] + columns, minlength=pixels.size)
            pixels += flat.reshape(pixels.shape)
        return cls(objects, pixels)

    def area(self, number: int) -> int:
        """True pixels of an object over all views."""
        return int(self.pixels[self._row(number)].sum())

    def lost(self, number: int) -> list[tuple[int, float]]:
        """What else an object's pixels are called and the share of them, greatest first."""
        row = self._row(number)
        return self._others(self.pixels[row], row, self.area(number))

    def taken(self, number: int) -> list[tuple[int, float]]:
        """Whose pixels are called by this object's name, as shares of its own true area."""
        row = self._row(number)
        return self._others(self.pixels[:, row], row, self.area(number))

    def _row(self, number: int) -> int:
        return 1 + self.objects.index(number)

    def _others(self, counts: Ids, own: int, area: int) -> list[tuple[int, float]]:
        names = (0, *self.objects, UNMATCHED)
        found = [
            (names[i], float(count) / max(area, 1))
            for i, count in enumerate(counts)
            if i != own and count
        ]
        return sorted(found, key=lambda pair: -pair[1])
