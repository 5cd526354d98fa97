# SPDX-License-Identifier: Apache-2.0
"""What a run says about itself: progress bar, log.jsonl, TensorBoard, tests on the way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import Lens
from iqgs.engine.run import Run, spread
from iqgs.engine.stages.protocol import Stage, StepLoss
from iqgs.evaluation.scorer import SceneScorer
from scene.view import View
from utils.image_quality import l1, only_valid, psnr
from utils.scalar_log import ScalarLog

logger = logging.getLogger(__name__)

REPORT_EVERY = 10  # steps between two records
SMOOTHING = 0.6  # of the loss shown in the progress bar, per record
MOST_TEST_VIEWS = 12  # a test on the way is a spot check; evaluate.py scores all views
TRAIN_TEST_VIEWS = 5


class Monitor:
    """Reports of one run. Of several processes the first one's, of its own views."""

    def __init__(self, run: Run) -> None:
        self.training = run
        self.log = ScalarLog(run.folder) if run.ranks.first else None
        self._smooth: float | None = None

    def step(self, iteration: int, step: StepLoss, bar: Any) -> None:
        """Every tenth step with a loss: one record and the bar's postfix."""
        bar.update(1)
        if self.log is None or iteration % REPORT_EVERY or step.total is None:
            return
        total = float(step.total.detach())
        old = total if self._smooth is None else self._smooth
        self._smooth = SMOOTHING * old + (1 - SMOOTHING) * total
        points = len(self.training.gaussians)
        bar.set_postfix({"Loss": f"{self._smooth:.5f}", "Points": points}, refresh=False)
        terms = {
            f"train_loss_patches/{name}_loss": float(term.detach())
            for name, term in step.terms.items()
        }
        self.log.write(
            iteration,
            {**terms, "train_loss_patches/total_loss": total, "total_points": points},
        )

    def stage_done(self, stage: Stage, seconds: float, peak_bytes: int) -> None:
        """One record at the end of a stage: time, splats, memory."""
        self._smooth = None
        if self.log is None:
            return
        self.log.write(
            stage.last,
            {
                "stage": stage.name,
                "seconds": seconds,
                "peak_memory_bytes": peak_bytes,
                "total_points": len(self.training.gaussians),
            },
        )

    def test(self, iteration: int, segments: bool) -> None:
        """Spot check of held-out (and some training) views: L1, PSNR, and mIoU if it `segments`."""
        scene = self.training.scene
        sets = {
            "test": spread(scene.test, MOST_TEST_VIEWS),
            "train": spread(scene.train, TRAIN_TEST_VIEWS),
        }
        for name, views in sets.items():
            if views:
                self._test_set(iteration, name, views, segments)

    @torch.no_grad()
    def _test_set(self, iteration: int, name: str, views: Sequence[View], segments: bool) -> None:
        training = self.training
        errors, ratios = [], []
        pictures: list[Tensor] = []
        scorer = SceneScorer(
            "id" if training.method is None or training.method.ids == "global" else "view",
            training.config.model.zero_label,
        )
        scored = False
        for view in views:
            lens = training.lens(view.camera)
            rendered = lens.render(with_surface=False)
            device = training.gaussians.device
            color, valid = rendered.color.clamp(0, 1), view.valid_on(device)
            shown, truth = only_valid(color, valid), only_valid(view.image_on(device), valid)
            errors.append(float(l1(shown, truth)))
            ratios.append(float(psnr(shown, truth)))
            pictures = pictures or [color.cpu()]
            scored |= segments and self._score(scorer, view, lens)
        values = {
            f"{name}/loss_viewpoint - l1_loss": float(np.mean(errors)),
            f"{name}/loss_viewpoint - psnr": float(np.mean(ratios)),
        }
        said = f"L1 {np.mean(errors):.4f} PSNR {np.mean(ratios):.2f}"
        if scored:
            scores = scorer.result().values
            values[f"{name}/mIoU_gt"] = float(scores["mIoU_gt"])
            said += f" mIoU_gt {100 * values[f'{name}/mIoU_gt']:.1f}"
        logger.info("[ITER %d] Evaluating %s: %s", iteration, name, said)
        assert self.log is not None
        self.log.write(iteration, values)
        self.log.image(iteration, f"{name}_view_{views[0].name}/render", pictures[0])

    def _score(self, scorer: SceneScorer, view: View, lens: Lens) -> bool:
        method = self.training.method
        if method is None or view.masks is None:
            return False
        found = method.segment(lens)
        table = self.training.scene.id_table
        truth = view.masks.label_map if table is None else table.to_original(view.masks.label_map)
        labels = self.training.file_ids(found.label_map, found.ids)
        scorer.add_view(view.name, labels, truth, {})
        return True

    def close(self) -> None:
        """Flush the logs."""
        if self.log is not None:
            self.log.close()
