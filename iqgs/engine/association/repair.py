# SPDX-License-Identifier: Apache-2.0
"""Masks of a run made to agree before instances are learned from them, through cached weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from iqgs.association import (
    Association,
    DrawnTracks,
    MaskView,
    associate,
    draw_tracks,
    relabel,
)
from iqgs.engine.association.masks_folder import (
    NOTHING_KNOWN,
    AssociatedMasks,
    numbers_that_fit,
    write_masks,
)
from iqgs.engine.association.report import Outcome, summary
from iqgs.engine.association.weighing import SplatChoice, sampled_view, small_camera, view_weights
from iqgs.engine.lifting.weight_cache import WeightCache, run_cache
from iqgs.engine.opening import give_method
from iqgs.engine.run import Run
from iqgs.engine.run_folder import IDS_FILE
from iqgs.methods import METHODS
from scene.masks import IdTable
from scene.masks.files import mask_keys
from scene.view import View

logger = logging.getLogger(__name__)

CLEAN = 0.001  # share of changed pixels up to which masks are left as they are
DRAWN_SIZE = 512  # pixels on the longer side at which a view is rendered in tracks, at most


def agree_on_masks(run: Run) -> WeightCache | None:
    """Decide once which masks the run learns from, where `--repair_masks` asks for it.

    With repaired masks come other ids and a method that is built for them. Returns the weights
    of the views that were looked at, if any were.
    """
    if run.masks_settled or run.config.segmentation.repair_masks == "off":
        return None
    run.masks_settled = True
    views = run.masked_views()
    if not views:
        return None
    cache = run_cache(run, views)
    run.repaired = MaskRepair(run, views, cache).run_through()
    if run.repaired is not None:
        run.ids = run.repaired.table
        run.ids.save(run.folder / IDS_FILE)
        give_method(run)
    return cache


class MaskRepair:
    """Finds the tracks of a run's masks through the cached weights of its views, and relabels."""

    def __init__(self, run: Run, views: list[View], cache: WeightCache) -> None:
        self.run, self.views, self.cache = run, views, cache
        assert run.scene.id_table is not None
        self.table = run.scene.id_table

    def run_through(self) -> AssociatedMasks | None:
        """Write RUN/repaired_masks; None where the masks agree already."""
        config = self.run.config
        every = SplatChoice(len(self.run.gaussians), None)
        some = SplatChoice.of(len(self.run.gaussians), config.train.seed)
        found = associate(
            (view for view, _ in self._sampled("Associating masks", some)),
            len(some),
            config.model.zero_label == "background",
            "graph" if METHODS[config.segmentation.method].per_view_ids else "auto",
        )
        means = self.run.gaussians.means.detach().cpu().numpy()
        splats = some.spread(found.splats, means)
        found = replace(found, names=numbers_that_fit(found.names), splats=splats)
        tried = self._outcome(found)
        gives_back = np.zeros(len(self.views), bool)
        for number, (view, share) in enumerate(self._sampled("Checking masks", every)):
            drawn = draw_tracks(view.weights, found.splats, found.tracks.count)
            done = relabel(
                view.labels, number, found.masks, found.tracks, found.names, drawn, share
            )
            tried.add(number, done)
            gives_back[number] = bool(done.swallowed)
        if found.start == "given" and tried.changed_share <= CLEAN:
            logger.info(
                "the masks of all views agree: %.2f %% of the pixels would change, so none is",
                100 * tried.changed_share,
            )
            return None
        return self._written(found, gives_back)

    def _outcome(self, found: Association) -> Outcome:
        names = {} if found.start == "graph" else self.table.names
        return Outcome(found, [view.name for view in self.views], names)

    def _written(self, found: Association, gives_back: NDArray[np.bool_]) -> AssociatedMasks:
        outcome = self._outcome(found)
        files = {name: f"{key}.png" for name, key in mask_keys(outcome.views).items()}

        def maps() -> Iterator[tuple[str, NDArray[np.int64]]]:
            for number, view in enumerate(self._progress("Relabelling masks", self.views)):
                drawn = self._drawn(found, view) if gives_back[number] else None
                labels = self._labels(view)
                done = relabel(labels, number, found.masks, found.tracks, found.names, drawn)
                outcome.add(number, done)
                yield files[view.name], done.label_map

        target = self.run.folder / AssociatedMasks.IN_RUN
        table = self._table(found)
        written = write_masks(target, maps(), lambda: {**outcome.report(), "files": files}, table)
        logger.info("%s; see %s", summary(outcome), target)
        return written

    def _table(self, found: Association) -> IdTable:
        """The numbering of the repaired maps; colours keep their meaning in the files."""
        known = set(found.names.tolist())
        tracks = found.start == "graph"
        return IdTable(
            tuple(sorted(known)),
            {} if tracks else {n: name for n, name in self.table.names.items() if n in known},
            self.table.zero_label,
            NOTHING_KNOWN,
            {} if tracks else {n: c for n, c in self.table.colors.items() if n in known},
        )

    def _labels(self, view: View) -> NDArray[np.int64]:
        """The masks of a view [H, W] in the numbers of the files; -1: no target."""
        assert view.masks is not None
        return self.table.to_original(view.masks.label_map).astype(np.int64)

    def _sampled(self, what: str, choice: SplatChoice) -> Iterator[tuple[MaskView, float]]:
        """Some pixels of every view, and their share of its pixels."""
        for index, view in enumerate(self._progress(what, self.views)):
            labels = self._labels(view)
            found = sampled_view(self.cache.view(index), choice, labels)
            yield found, len(found.labels) / labels.size

    def _drawn(self, found: Association, view: View) -> DrawnTracks:
        """A view rendered in tracks."""
        camera = small_camera(view.camera, DRAWN_SIZE)
        weights = view_weights(self.run.lens(camera), SplatChoice(len(self.run.gaussians), None))
        flat = draw_tracks(weights, found.splats, found.tracks.count)
        shape = camera.height, camera.width
        return DrawnTracks(flat.track.reshape(shape), flat.share.reshape(shape))

    def _progress(self, what: str, views: Iterable[View]) -> Iterable[View]:
        quiet = self.run.config.train.quiet
        return tqdm(views, desc=what, total=len(self.views), disable=quiet, leave=False)
