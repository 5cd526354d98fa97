# SPDX-License-Identifier: Apache-2.0
"""The second pass of an association: every view's masks in the numbers of the tracks, written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iqgs.association import Association, DrawnTracks, relabel
from iqgs.engine.association.masks_folder import (
    AssociatedMasks,
    Labels,
    mask_suffix,
    no_target_of,
    write_masks,
)
from iqgs.engine.association.report import Outcome
from scene.masks import IdTable
from scene.masks.files import mask_keys
from scene.view import View
from utils.progress import tqdm

Draw = Callable[[int, View], DrawnTracks | None]
Watch = Callable[[View, Labels, Labels], None]


def file_numbers(view: View, table: IdTable) -> Labels:
    """The masks of a view [H, W] in the numbers of the files; -1: no target."""
    assert view.masks is not None
    return table.to_original(view.masks.label_map).astype(np.int64)


def over_views(views: Sequence[View], what: str, quiet: bool) -> Iterable[View]:
    """The views, with a progress bar unless `quiet`."""
    bar: Iterable[View] = tqdm(views, desc=what, disable=quiet, leave=False)
    return bar


@dataclass(frozen=True, eq=False)
class Relabelling:
    """Tracks, the views that they are of, and what they are called in the files to be written."""

    found: Association
    views: Sequence[View]
    table: IdTable  # of the masks as they are
    numbers: Labels  # [K] of the tracks

    def outcome(self) -> Outcome:
        """Nothing changed yet."""
        return Outcome(self.found, [view.name for view in self.views], self.numbers, self._names())

    def _names(self) -> dict[int, str]:
        """Names of objects, by their new numbers; ids that mean nothing have none."""
        if self.found.start == "graph":
            return {}
        old = zip(self.found.names.tolist(), self.numbers.tolist(), strict=True)
        return {new: self.table.names[name] for name, new in old if name in self.table.names}

    def _new_table(self, suffix: str) -> IdTable:
        """Of the written maps. Colours keep their meaning in the files that were read."""
        known = sorted(set(self.numbers.tolist()))
        old = {} if self.found.start == "graph" else self.table.colors
        colors = {number: code for number, code in old.items() if number in set(known)}
        zero = self.table.zero_label
        return IdTable(tuple(known), self._names(), zero, no_target_of(suffix), colors)

    def write(
        self,
        target: Path,
        draw: Draw,
        *,
        quiet: bool,
        watch: Watch | None = None,
        more: Callable[[], Mapping[str, Any]] = dict,
    ) -> tuple[AssociatedMasks, dict[str, Any], Outcome]:
        """Write all views to `target`; the folder, its report, and the outcome.

        `draw` renders a view in tracks, or not; `watch` sees each view with its masks before and
        after; `more` belongs into the report once all views are done.
        """
        outcome, suffix = self.outcome(), mask_suffix(self.numbers)
        files = {name: key + suffix for name, key in mask_keys(outcome.views).items()}
        report: dict[str, Any] = {}

        def maps() -> Iterator[tuple[str, Labels]]:
            for number, view in enumerate(over_views(self.views, "Relabelling masks", quiet)):
                before = file_numbers(view, self.table)
                after = self._relabelled(number, before, draw(number, view), outcome)
                if watch is not None:
                    watch(view, before, after)
                yield files[view.name], after

        def finished() -> dict[str, Any]:
            report.update(outcome.report(), files=files, **more())
            return report

        return write_masks(target, maps(), finished, self._new_table(suffix)), report, outcome

    def _relabelled(
        self, number: int, labels: Labels, drawn: DrawnTracks | None, outcome: Outcome
    ) -> Labels:
        found = self.found
        done = relabel(labels, number, found.masks, found.tracks, found.names, drawn)
        outcome.add(number, done)
        if np.array_equal(found.names, self.numbers):
            return done.label_map
        order = np.argsort(found.names)
        at = np.searchsorted(found.names, done.label_map, sorter=order).clip(max=len(order) - 1)
        return np.where(done.label_map > 0, self.numbers[order[at]], done.label_map)
