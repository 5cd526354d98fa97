# SPDX-License-Identifier: Apache-2.0
"""The stage of closed-form methods: every training view is looked at once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from iqgs.engine.run import Run
from iqgs.engine.stages.protocol import StepLoss
from iqgs.methods.protocol import FitView


class Fitting:
    """Hands the training views to the method, one a step; nothing is optimised."""

    name = "fitting"
    learns_instances = True
    cheap_steps = False

    def __init__(self, run: Run, first: int) -> None:
        self.run = run
        self.method = run.learning_method
        self.views = run.masked_views()
        self.first, self.last = first, first + len(self.views) - 1

    def loss(self, iteration: int) -> StepLoss:
        """No loss: the view of this step."""
        view = self.views[iteration - self.first]
        return StepLoss(view.name, {}, None, view)

    def parameters(self) -> list[Tensor]:
        """None."""
        return []

    @torch.no_grad()
    def update(self, iteration: int, step: StepLoss) -> None:
        """Let the method take the view into account."""
        view = step.carried
        labels = view.label_map_on(self.run.gaussians.device)
        self.method.fit([FitView(self.run.lens(view.camera), labels)])

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
