# SPDX-License-Identifier: Apache-2.0
"""Which objects a text means: a vote of the text's masks in many views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TextMatch:
    """How well a text fits an object."""

    number: int
    score: float  # 0..1: share of the object's pixels in the text's masks, or a model's relevancy
    views: int  # that said so


@dataclass
class TextVote:
    """Counts pixels of objects in masks of texts. Views without a mask of a text do not vote on it;
    one with an empty mask says that the text is not there.
    """

    _inside: dict[str, dict[int, int]] = field(default_factory=dict)
    _seen: dict[str, dict[int, int]] = field(default_factory=dict)
    _views: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, text: str, labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> None:
        """One view: objects by number [H, W], 0 = none, and the text's mask [H, W]."""
        if labels.shape != mask.shape:
            raise ValueError(f"labels {labels.shape} and mask {mask.shape} differ in size")
        inside, seen, views = (
            counts.setdefault(text, {}) for counts in (self._inside, self._seen, self._views)
        )
        for part, counts in ((labels, seen), (labels[mask], inside)):
            for number, count in zip(*np.unique(part, return_counts=True), strict=True):
                counts[int(number)] = counts.get(int(number), 0) + int(count)
        for number in np.unique(labels):
            views[int(number)] = views.get(int(number), 0) + 1

    def matches(self, text: str) -> tuple[TextMatch, ...]:
        """The objects that masks of this text touch, best first. Each view weighs by the pixels of
        the object in it; Gaussian Grouping asks one view for a share of 0.7.
        """
        inside, seen = self._inside.get(text, {}), self._seen.get(text, {})
        found = [
            TextMatch(number, count / seen[number], self._views[text][number])
            for number, count in inside.items()
            if number
        ]
        return tuple(sorted(found, key=lambda match: (-match.score, match.number)))


def chosen_objects(matches: Sequence[TextMatch], threshold: float) -> tuple[int, ...]:
    """The numbers of those that reach the threshold, ascending."""
    return tuple(sorted(match.number for match in matches if match.score >= threshold))


def names_of(found: Mapping[str, Sequence[TextMatch]], threshold: float) -> dict[int, str]:
    """For each object the text that fits it best (of equals the first), where any reaches the
    threshold."""
    best: dict[int, tuple[float, str]] = {}
    for text, matches in found.items():
        for match in matches:
            if match.score >= threshold and match.score > best.get(match.number, (-1.0, ""))[0]:
                best[match.number] = (match.score, text)
    return {number: text for number, (_, text) in sorted(best.items())}
