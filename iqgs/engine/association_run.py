# SPDX-License-Identifier: Apache-2.0
"""`associate_masks.py`: any per-view masks and any splats in, masks with one id an object out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arguments.association import AssociationParams
from iqgs.association import associate
from iqgs.engine.association.masks_folder import NOTHING_KNOWN, Labels, numbers_that_fit
from iqgs.engine.association.relabelling import Relabelling, file_numbers, over_views
from iqgs.engine.association.report import poor_splats, summary
from iqgs.engine.association.sheet import Cuts, cut_out, object_sheet
from iqgs.engine.association.sources import PointSource, Source, SplatSource
from iqgs.engine.run import choose_device
from iqgs.evaluation.identity import IdentityScorer
from scene.dataset import Scene, load_scene
from scene.gaussian_model import GaussianModel
from scene.masks import IdTable, MaskRequest, collect_masks, refuse_errors, write_about
from scene.view import View
from utils.errors import DataError, UserError
from utils.images import write_pixels
from utils.reproducibility import set_threads

logger = logging.getLogger(__name__)

SHEET_SUFFIX = "_objects.png"


@dataclass(frozen=True)
class AssociationResult:
    """What was written."""

    folder: Path
    report: dict[str, Any]
    sheet: Path | None

    def lines(self) -> list[str]:
        """What a person wants to know first."""
        found = self.report
        said = [
            f"{self.folder}: {len(found['objects'])} objects in {found['views']} views, "
            f"{len(found['set_aside'])} of {found['masks']} masks set aside"
        ]
        if "identity" in found:
            scores = ", ".join(f"{k} {100 * v:.1f}" for k, v in found["identity"].items())
            before = ", ".join(f"{k} {100 * v:.1f}" for k, v in found["identity_before"].items())
            said += [f"against the true masks: {scores} (before: {before})"]
        if self.sheet is not None:
            said.append(f"every object across views: {self.sheet}")
        said.append(f"train on them: train.py -o {self.folder}")
        return said


def associate_scene(params: AssociationParams) -> AssociationResult:
    """Make the masks of a scene agree. Raises UserError, DataError, RunError."""
    options = params.options
    source = Path(params.scene.source_path)
    if not source.is_dir():
        raise UserError(f"-s {source}: no such folder")
    folder = f"{Path(params.scene.object_path).name}_associated"
    target = Path(options.output) if options.output else source / folder
    if target.exists() and not options.overwrite:
        raise UserError(f"{target} is already there; pass --overwrite, or another --output")
    set_threads(options.threads)
    scene = load_scene(_at_full_size(params), seed=0)
    for notice in scene.notices:
        logger.info("%s", notice)
    return _SceneAssociation(params, scene, target).run()


def _at_full_size(params: AssociationParams) -> Any:
    """Masks keep their size unless another is asked for."""
    whole = params.scene.resolution == -1
    return replace(params.scene, resolution=1) if whole else params.scene


def _read_splats(params: AssociationParams, scene: Scene) -> Source:
    options = params.options
    if not options.splats:
        return PointSource(scene)
    if not Path(options.splats).is_file():
        raise UserError(f"--splats {options.splats}: no such file")
    gaussians = GaussianModel.load_ply(options.splats, kind=None, frame=scene.frame)
    return SplatSource(gaussians.to(choose_device(options.device)), options.width)


class _SceneAssociation:
    """Two passes over the views of a scene: one finds the tracks, one relabels."""

    def __init__(self, params: AssociationParams, scene: Scene, target: Path) -> None:
        self.options, self.scene, self.target = params.options, scene, target
        self.views = [v for v in (*scene.train, *scene.test) if v.mask_path is not None]
        if not self.views or scene.id_table is None:
            raise DataError(
                f"{scene.source_path}: no masks in {params.scene.object_path}; check -o"
            )
        self.views.sort(key=lambda view: view.name)
        bent = next((v for v in self.views if v.picture is not None and v.picture.lens), None)
        if bent is not None:
            raise UserError(
                f"{bent.image_path} was taken through a lens that bends straight lines, so masks "
                "in its own pixels cannot be written; straighten the scene first (convert.py), or "
                "let train.py --repair_masks auto do it while training"
            )
        self.table: IdTable = scene.id_table
        self.params = params
        self.cuts: Cuts = {}

    def run(self) -> AssociationResult:
        """Find the tracks and write everything."""
        source = _read_splats(self.params, self.scene)
        found = associate(
            (
                source.look(view, file_numbers(view, self.table))
                for view in over_views(self.views, "Associating masks", self.options.quiet)
            ),
            len(source),
            self.table.zero_label == "background",
            self.options.start,
        )
        # Before the maps: without it 65535 would pass for an object.
        details = {"made by": "associate_masks", "no_target": NOTHING_KNOWN}
        write_about(self.target, "ids", details)
        numbers, scorers = numbers_that_fit(found.names), self._scorers()

        def watch(view: View, before: Labels, after: Labels) -> None:
            if scorers is not None:
                scorers.add(view, before, after)
            self._cut(view, after)
            view.forget()

        written, report, outcome = Relabelling(found, self.views, self.table, numbers).write(
            self.target,
            lambda _, view: source.draw(found, view),
            quiet=self.options.quiet,
            watch=watch,
            more=dict if scorers is None else scorers.results,
        )
        logger.info("%s", summary(outcome))
        if outcome.poor:
            logger.warning("%s", poor_splats(outcome))
        return AssociationResult(written.folder, report, self._write_sheet(report))

    def _scorers(self) -> _Scorers | None:
        if not self.options.gt_path:
            return None
        folder = self.scene.source_path / self.options.gt_path
        if not folder.is_dir():
            raise UserError(f"--gt_path {self.options.gt_path}: no such folder in the scene")
        wanted = MaskRequest(
            folder, self.scene.source_path / "labels.json", "background", -1, False, {}
        )
        pictures = {view.name: view.picture for view in self.views}
        truth = collect_masks(wanted, [view.camera for view in self.views], None, pictures)
        refuse_errors(truth.findings)
        return _Scorers(truth, IdentityScorer(), IdentityScorer())

    def _cut(self, view: View, labels: NDArray[np.int64]) -> None:
        """Keep cut-outs of the objects that have too few of them yet."""
        wanted = self.options.sheet_views
        every = max(1, len(self.views) // max(3 * wanted, 1))
        if not wanted or self.views.index(view) % every:
            return
        numbers = [int(n) for n in np.unique(labels) if n > 0]
        numbers = [n for n in numbers if len(self.cuts.get(n, ())) < wanted]
        if not numbers:
            return
        photograph = (view.image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
        for number in numbers:
            self.cuts.setdefault(number, []).append(cut_out(photograph, labels, number))

    def _write_sheet(self, report: dict[str, Any]) -> Path | None:
        if not self.options.sheet_views:
            return None
        path = self.target.with_name(self.target.name + SHEET_SUFFIX)
        write_pixels(path, object_sheet(self.cuts, report["objects"], self.options.sheet_views))
        return path


@dataclass(frozen=True)
class _Scorers:
    """Identities against the truth, before and after."""

    truth: Any  # MaskCollection
    before: IdentityScorer
    after: IdentityScorer

    def add(self, view: View, raw: NDArray[np.int64], done: NDArray[np.int64]) -> None:
        """Count one view, if there is truth for it."""
        if view.name not in self.truth.masks:
            return
        true = self.truth.label_map(view.camera, view.picture)
        self.before.add_view(true, raw)
        self.after.add_view(true, done)

    def results(self) -> dict[str, Any]:
        """For the report."""
        return {"identity_before": self.before.result(), "identity": self.after.result()}
