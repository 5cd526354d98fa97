# SPDX-License-Identifier: Apache-2.0
"""The joint route: colour and instances together, as Gaussian Grouping trains."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iqgs.engine.lifting.neighbors import NeighborPairs
from iqgs.engine.ranks import Ranks
from iqgs.engine.run import Run
from iqgs.engine.stages.finite import gradients_of, naming
from iqgs.engine.stages.instances import ADAM_EPS, view_labels
from iqgs.engine.stages.protocol import StepLoss, step_generator
from iqgs.engine.stages.reconstruction import Reconstruction
from iqgs.methods.protocol import Batch, total_loss
from scene.view import View
from utils.adam import fastest_adam
from utils.schedules import cosine

NEIGHBOR_REFRESH = 200  # steps after which moved splats get their neighbours anew


@dataclass(frozen=True)
class BothSteps:
    """What the updates of colour and of instances need."""

    color: StepLoss
    seen: Any  # None: the view has no masks


class JointTraining:
    """Every step fits colour, and where the view has masks also instances.

    The colour half is a `Reconstruction`. The instance loss is detached from geometry unless
    `--instance_moves_geometry`; it never drives densification.
    """

    name = "joint"
    learns_instances = True
    cheap_steps = False

    def __init__(self, run: Run) -> None:
        self.run, self.method = run, run.learning_method
        self.color = Reconstruction(
            run.config, run.scene, run.gaussians, run.renderer, run.exposures
        )
        self.options, self.segmentation = run.config.optimization, run.config.segmentation
        self.first, self.last = self.color.first, self.color.last
        # The attribute shares the splats' optimizer, so densification edits its moments too.
        self.color.optimizer.add_param_group(
            {"params": [run.gaussians.params["instance"]], "name": "instance", "lr": 0.0}
        )
        groups = [{**group, "lr": 0.0} for group in self.method.parameter_groups()]
        self.decoder_optimizer = fastest_adam(groups, eps=ADAM_EPS)
        self._neighbors: NeighborPairs | None = None
        self._neighbors_key = (-1, -1)

    def draw(self, iteration: int) -> list[int]:
        """Set all rates, choose the views, and find the neighbours anew when it is time."""
        self._set_rates(iteration)
        batch = self.color.draw(iteration)
        if any(self.run.scene.train[index].mask_path is not None for index in batch):
            self._refresh_neighbors(iteration)
        return batch

    def loss(self, iteration: int, view: int, slot: int = 0) -> StepLoss:
        """One view: colour terms and, where it has masks, instance terms."""
        color = self.color.loss(iteration, view, slot)
        shown = color.carried.view
        if shown.masks is None:
            return StepLoss(color.view, color.terms, color.total, BothSteps(color, None))
        with naming(iteration, color.view):
            made = self.method.terms(self._batch(shown, iteration, slot))
        assert color.total is not None
        total = color.total + total_loss(made.terms, self.method.weights)
        terms = {**color.terms, **made.terms}
        return StepLoss(color.view, terms, total, BothSteps(color, made.seen))

    def _set_rates(self, iteration: int) -> None:
        final, steps = self.segmentation.lr_iqgs_final, self.options.iterations
        for group in self.color.optimizer.param_groups:
            if group["name"] == "instance":
                group["lr"] = cosine(iteration, self.segmentation.lr_instance, final, steps)
        for group in self.decoder_optimizer.param_groups:
            group["lr"] = cosine(iteration, self.segmentation.lr_iqgs, final, steps)

    def parameters(self) -> list[Tensor]:
        """Everything that either optimizer moves."""
        own = [p for group in self.decoder_optimizer.param_groups for p in group["params"]]
        return [*self.color.parameters(), *own]

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """Those of both halves."""
        return {**self.color.gradients(step.carried.color), **gradients_of(self.decoder_optimizer)}

    def take(self, step: StepLoss) -> Any:
        """As the colour half; what the method saw is left."""
        both: BothSteps = step.carried
        self.color.take(both.color)
        return both.seen

    def exchange(self, ranks: Ranks, seen: list[Any]) -> list[Any]:
        """Sum all gradients and signals over all processes."""
        self.color.exchange_of(ranks, self.parameters())
        return ranks.in_order(seen, self.run.gaussians.device)

    def update(self, iteration: int, seen: list[Any]) -> None:
        """Move the method, then the splats."""
        for left in seen:
            if left is not None:
                self.method.observe(left)
        self.decoder_optimizer.step()
        self.decoder_optimizer.zero_grad(set_to_none=True)
        self.color.update(iteration, seen)

    def _batch(self, view: View, iteration: int, slot: int) -> Batch:
        generator = step_generator(self.run.config.train.seed, iteration, 2, slot)
        gaussians, camera = self.run.gaussians, view.camera
        size = camera.width * camera.height
        count = self.segmentation.pixels_per_step or size
        pixels = torch.arange(size) if count >= size else torch.randperm(size, generator=generator)
        pixels = pixels[:count].to(gaussians.device)
        detached = not self.segmentation.instance_moves_geometry

        def splat_values(values: Tensor) -> Tensor:
            image = self.run.renderer.splat(camera, gaussians, values, detached)
            return image.flatten(1).T[pixels]

        instance = gaussians.instance
        ones = torch.ones(len(gaussians), 1, device=gaussians.device)
        rendered = splat_values(torch.cat([instance, ones], 1))
        return Batch(
            features=rendered[:, :-1],
            labels=view_labels(view, pixels),
            instance=instance,
            touched=torch.arange(len(gaussians), device=gaussians.device),
            splat=splat_values,
            pairs=self._pairs(iteration, generator),
            alpha=rendered[:, -1].detach(),
            pixels=pixels,
            view=view.camera.uid,
            regions=lambda: view.regions_on(pixels.device).reshape(-1)[pixels],
        )

    def _refresh_neighbors(self, iteration: int) -> None:
        key = (len(self.run.gaussians), iteration // NEIGHBOR_REFRESH)
        if self._neighbors is None or key != self._neighbors_key:
            self._neighbors = NeighborPairs(self.run.gaussians.means, self.method.neighbors[0])
            self._neighbors_key = key

    def _pairs(self, iteration: int, generator: torch.Generator) -> Tensor:
        _, wanted, interval = self.method.neighbors
        assert self._neighbors is not None  # `draw` has found them
        return self._neighbors.sample(0 if iteration % interval else wanted, generator)

    def rewind(self) -> None:
        """Put the view back."""
        self.color.rewind()

    def up_to_date(self) -> AbstractContextManager[None]:
        """They always are."""
        return nullcontext()

    def seen(self) -> Tensor | None:
        """Not known here."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Both halves, and the graph of neighbours as of its last refresh."""
        graph = None if self._neighbors is None else self._neighbors.indices
        return {
            **self.color.state_dict(),
            "decoder_optimizer": self.decoder_optimizer.state_dict(),
            "neighbors": graph,
            "neighbors_key": list(self._neighbors_key),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave; the Gaussians were put back before."""
        self.color.load_state_dict(state)
        self.decoder_optimizer.load_state_dict(state["decoder_optimizer"])
        if state["neighbors"] is not None:
            graph = state["neighbors"].to(self.run.gaussians.device)  # checkpoints are on the CPU
            self._neighbors = NeighborPairs.from_indices(graph)
        first, second = state["neighbors_key"]
        self._neighbors_key = (int(first), int(second))
