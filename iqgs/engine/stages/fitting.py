# SPDX-License-Identifier: Apache-2.0
"""The stage of closed-form methods: every training view is looked at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from iqgs.engine.ranks import Ranks
from iqgs.engine.run import Run
from iqgs.engine.stages.protocol import StepLoss
from iqgs.methods import METHODS
from iqgs.methods.protocol import FitView
from scene.frozen_gaussians import FrozenGaussians
from scene.gaussian_model import GaussianModel
from scene.view import View
from utils.read_ahead import read_ahead


def fit_view(
    run: Run, view: View, number: int, done: int = 0, splats: GaussianModel | None = None
) -> FitView:
    """A training view as methods see it whole, `done` rounds after its first time.

    `splats`: the run's own in another form.
    """
    device = run.gaussians.device
    return FitView(
        run.renderer.lens(view.camera, run.gaussians if splats is None else splats),
        view.label_map_on(device),
        layers=lambda: view.patches_on(device),
        image=lambda: view.image_on(device),
        number=number,
        round=done,
    )


class Fitting:
    """Hands the training views to the method, one a step, as often as the method's entry says;
    nothing is optimised. The masks of a view are read while the view before is looked at. Of
    several processes the first does it: it alone saves what comes out."""

    name = "fitting"
    learns_instances = True
    cheap_steps = False

    def __init__(self, run: Run, first: int) -> None:
        self.run = run
        self.method = run.learning_method
        self.views = run.masked_views()
        entry = METHODS[run.config.segmentation.method]
        self.rounds = entry.rounds(run.config.method)
        self.first, self.last = first, first + len(self.views) * self.rounds - 1
        self.splats = FrozenGaussians(run.gaussians)
        self._ahead: tuple[int, Iterator[FitView]] | None = None  # the step that comes next

    @torch.no_grad()
    def draw(self, iteration: int) -> list[int]:
        """Let the method take the step's view into account; there is none to learn from."""
        if self.run.ranks.first:
            view = self._next_view(iteration)
            self.method.fit([view])
            if self.rounds == 1:
                self.views[view.number].forget()
        return []

    def _next_view(self, iteration: int) -> FitView:
        if self._ahead is None or self._ahead[0] != iteration:
            steps = range(iteration, self.last + 1)
            self._ahead = iteration, read_ahead(steps, self._view)
        view = next(self._ahead[1])
        self._ahead = iteration + 1, self._ahead[1]
        return view

    def _view(self, iteration: int) -> FitView:
        done, number = divmod(iteration - self.first, len(self.views))
        return fit_view(self.run, self.views[number], number, done, self.splats)

    def loss(self, iteration: int, view: int, slot: int = 0) -> StepLoss:
        """ValueError: nothing is optimised."""
        raise ValueError("a closed form has no loss")

    def parameters(self) -> list[Tensor]:
        """None."""
        return []

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """None."""
        return {}

    def take(self, step: StepLoss) -> Any:
        """Nothing."""

    def exchange(self, ranks: Ranks, seen: list[Any]) -> list[Any]:
        """Nothing."""
        return seen

    def update(self, iteration: int, seen: list[Any]) -> None:
        """Nothing."""

    def rewind(self) -> None:
        """Nothing was drawn."""

    def up_to_date(self) -> AbstractContextManager[None]:
        """They always are."""
        return nullcontext()

    def seen(self) -> Tensor | None:
        """What the method knows of it."""
        seen: Tensor | None = getattr(self.method, "seen", lambda: None)()
        return seen

    def state_dict(self) -> dict[str, Any]:
        """Nothing beside what the method itself keeps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""
