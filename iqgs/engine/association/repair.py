# SPDX-License-Identifier: Apache-2.0
"""Masks of a run made to agree before instances are learned from them, through cached weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from iqgs.association import (
    DrawnTracks,
    MaskView,
    associate,
    draw_tracks,
    relabel,
)
from iqgs.engine.association.masks_folder import AssociatedMasks
from iqgs.engine.association.relabelling import Relabelling, file_numbers, over_views
from iqgs.engine.association.report import poor_splats, summary
from iqgs.engine.association.weighing import SplatChoice, drawn_view, sampled_view, small_camera
from iqgs.engine.lifting.weight_cache import WeightCache, run_cache
from iqgs.engine.opening import give_method
from iqgs.engine.run import Run
from iqgs.engine.run_folder import IDS_FILE
from iqgs.methods import METHODS
from scene.view import View
from utils.errors import UserError

logger = logging.getLogger(__name__)

CLEAN = 0.001  # share of changed pixels up to which masks are left as they are
DRAWN_SIZE = 512  # pixels on the longer side at which a view is rendered in tracks, at most


def agree_on_masks(run: Run) -> WeightCache | None:
    """Decide once which masks the run learns from, where `--repair_masks` asks for it.

    With repaired masks come other ids and a method that is built for them. Returns the weights
    of the views that were looked at, if any were. Of several processes the first decides and
    writes, while the others wait and then read what it has written.
    """
    if run.masks_settled or run.config.segmentation.repair_masks == "off":
        return None
    run.masks_settled = True
    views = run.masked_views()
    if not views:
        return None
    cache, ranks = run_cache(run, views), run.ranks
    with ranks.together():
        if ranks.first:
            run.repaired = MaskRepair(run, views, cache).run_through()
            if run.repaired is not None:
                run.repaired.table.save(run.folder / IDS_FILE)
    if ranks.from_first(run.repaired is not None):
        folder = run.folder / AssociatedMasks.IN_RUN
        with ranks.together():
            run.repaired = run.repaired if ranks.first else AssociatedMasks.read(folder)
            if run.repaired is None:
                raise UserError(f"{folder} is not there: all machines of a run must see it")
        run.ids = run.repaired.table
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
        found = replace(found, splats=some.spread(found.splats, means))
        relabelling = Relabelling(found, self.views, self.table, found.names)
        tried = relabelling.outcome()
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
        if tried.poor:
            logger.warning("%s", poor_splats(tried))
            if found.start == "given":
                logger.warning("the masks are left as they are")
                return None

        def draw(number: int, view: View) -> DrawnTracks | None:
            if not gives_back[number]:
                return None
            lens = self.run.lens(small_camera(view.camera, DRAWN_SIZE))
            return drawn_view(lens, found.splats, found.tracks.count)

        target, quiet = self.run.folder / AssociatedMasks.IN_RUN, config.train.quiet
        written, _, outcome = relabelling.write(target, draw, quiet=quiet)
        logger.info("%s; see %s", summary(outcome), target)
        return written

    def _sampled(self, what: str, choice: SplatChoice) -> Iterator[tuple[MaskView, float]]:
        """Some pixels of every view, and their share of its pixels."""
        quiet = self.run.config.train.quiet
        for index, view in enumerate(over_views(self.views, what, quiet)):
            labels = file_numbers(view, self.table)
            found = sampled_view(self.cache.view(index), choice, labels)
            yield found, len(found.labels) / labels.size
