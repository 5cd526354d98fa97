# SPDX-License-Identifier: Apache-2.0
"""What an association did, as a record: objects and how sure they are, conflicts, what was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from iqgs.association import Association, Relabelled, contradicting
from iqgs.association.lift import Ids
from iqgs.association.relabel import ZERO

UNSURE = 0.5  # confidence below which a person should look at an object


@dataclass
class Outcome:
    """An association and what its repair changed, view by view."""

    found: Association
    views: Sequence[str]  # names of the images, as numbered in `found`
    numbers: Ids  # [K] of the tracks, as they are written
    names: Mapping[int, str]  # of objects, by these numbers, where known
    pixels: int = 0
    changed: int = 0  # pixels whose label is another one; of tracks beyond its number
    given_back: list[dict[str, Any]] = field(default_factory=list)

    def add(self, view: int, done: Relabelled) -> None:
        """Count one view, or a sample of its pixels."""
        self.pixels += done.label_map.size
        self.changed += done.changed if self.found.start == "graph" else done.renamed
        for item in done.swallowed:
            region = item.region
            self.given_back.append(
                {
                    "view": self.views[view],
                    "to": int(self.numbers[item.track]),
                    "from": 0 if region == ZERO else int(self.found.masks.ids[region]),
                }
            )

    @property
    def changed_share(self) -> float:
        """Share of all pixels."""
        return self.changed / max(self.pixels, 1)

    @property
    def typical_confidence(self) -> float:
        """Median over the objects; 0 without any."""
        confidence = self.found.confidence
        return float(np.median(confidence)) if confidence.size else 0.0

    @property
    def poor(self) -> bool:
        """Whether the masks of half the objects lie elsewhere than their splats in other views:
        these splats tell nothing about the masks.
        """
        return self.typical_confidence < UNSURE

    def report(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = self.found
        return {
            "start": found.start,
            "views": len(self.views),
            "masks": len(found.masks),
            "pixels": self.pixels,
            "changed": self.changed_share,
            "kept_ids": found.kept_ids,
            "merged_ids": {str(old): int(self.numbers[t]) for old, t in merged_ids(found).items()},
            "objects": self._objects(),
            "set_aside": self._set_aside(),
            "given_back": self.given_back,
        }

    def _objects(self) -> list[dict[str, Any]]:
        found, rows = self.found, []
        for track in np.argsort(self.numbers, kind="stable"):
            mine = np.flatnonzero(found.tracks.track == track)
            views, count = np.unique(found.masks.view[mine], return_counts=True)
            number = int(self.numbers[track])
            row = {
                "id": number,
                "views": len(views),
                "first_view": self.views[views[0]],
                "masks": len(mine),
                "confidence": round(float(found.confidence[track]), 3),
                "conflicts": [self.views[v] for v in views[count > 1]],
            }
            if number in self.names:
                row["name"] = self.names[number]
            if found.start == "given":
                row["was"] = sorted({int(i) for i in found.masks.ids[mine]} - {number})
            rows.append(row)
        return rows

    def count_aside(self) -> int:
        """Masks that nothing is learned from."""
        return len(self._set_aside())

    def _set_aside(self) -> list[dict[str, Any]]:
        found = self.found
        alone = np.flatnonzero(found.tracks.track < 0)
        wrong = [
            m
            for v in range(found.masks.n_views)
            for m in contradicting(found.masks, found.tracks, v)
        ]
        why = {int(m): "contradicts the other views" for m in wrong}
        why |= {int(m): "is an object in no other view" for m in alone}
        return [
            {
                "view": self.views[found.masks.view[m]],
                "id": int(found.masks.ids[m]),
                "pixels": int(found.masks.area[m]),
                "why": why[m],
            }
            for m in sorted(why)
        ]


def merged_ids(found: Association) -> dict[int, int]:
    """Given ids that name no track any more -> the track in which most of their masks go on."""
    if found.start != "given":
        return {}
    named, merged = set(found.names.tolist()), {}
    for number in np.unique(found.masks.ids):
        if int(number) in named:
            continue
        tracks = found.tracks.track[found.masks.ids == number]
        tracks = tracks[tracks >= 0]
        if len(tracks):
            merged[int(number)] = int(np.bincount(tracks).argmax())
    return merged


def summary(outcome: Outcome) -> str:
    """One sentence for the log."""
    found = outcome.found
    aside = outcome.count_aside()
    unsure = int((found.confidence < UNSURE).sum())
    ids = (
        f"ids that say the same in all views are found for {found.tracks.count} objects"
        if found.start == "graph"
        else f"{len(merged_ids(found))} of {len(np.unique(found.masks.ids))} ids merged into others"
    )
    return (
        f"masks made to agree: {ids}, {100 * outcome.changed_share:.2f} % of the pixels changed, "
        f"{len(outcome.given_back)} regions given back, {aside} of {len(found.masks)} masks set "
        f"aside, {unsure} objects with a confidence below {UNSURE:g}"
    )


def poor_splats(outcome: Outcome) -> str:
    """The sentence for splats that cannot judge masks."""
    return (
        "the splats hardly agree with any masks (confidence of a typical object "
        f"{outcome.typical_confidence:.2f}, below {UNSURE:g}): reconstruct longer, and look at the "
        "splats and at the masks"
    )
