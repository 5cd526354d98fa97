# SPDX-License-Identifier: Apache-2.0
"""The stage of closed-form methods: every training view is looked at once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from iqgs.engine.run import Run
from iqgs.engine.stages.protocol import StepLoss
from iqgs.methods import METHODS
from iqgs.methods.protocol import FitView
from scene.view import View


def fit_view(run: Run, view: View, number: int, done: int = 0) -> FitView:
    """A training view as methods see it whole, `done` rounds after its first time."""
    device = run.gaussians.device
    return FitView(
        run.lens(view.camera),
        view.label_map_on(device),
        layers=lambda: view.patches_on(device),
        image=lambda: view.image_on(device),
        number=number,
        round=done,
    )


class Fitting:
    """Hands the training views to the method, one a step, as often as the method's entry says;
    nothing is optimised."""

    name = "fitting"
    learns_instances = True
    cheap_steps = False

    def __init__(self, run: Run, first: int) -> None:
        self.run = run
        self.method = run.learning_method
        self.views = run.masked_views()
        entry = METHODS[run.config.segmentation.method]
        steps = len(self.views) * entry.rounds(run.config.method)
        self.first, self.last = first, first + steps - 1

    def loss(self, iteration: int) -> StepLoss:
        """No loss: the view of this step."""
        done, number = divmod(iteration - self.first, len(self.views))
        view = self.views[number]
        return StepLoss(view.name, {}, None, fit_view(self.run, view, number, done))

    def parameters(self) -> list[Tensor]:
        """None."""
        return []

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """None."""
        return {}

    @torch.no_grad()
    def update(self, iteration: int, step: StepLoss) -> None:
        """Let the method take the view into account."""
        self.method.fit([step.carried])

    def rewind(self) -> None:
        """Nothing was drawn."""

    def up_to_date(self) -> AbstractContextManager[None]:
        """They always are."""
        return nullcontext()

    def seen(self) -> Tensor | None:
        """Not known here."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Nothing beside what the method itself keeps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""
