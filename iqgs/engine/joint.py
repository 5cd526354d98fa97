# SPDX-License-Identifier: Apache-2.0
"""The joint route: colour and instances together, as Gaussian Grouping trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arguments import RunConfig
from gaussian_renderer import splat
from iqgs.criterion import total_loss
from iqgs.engine.instances import ADAM_EPS, NeighborPairs, view_labels
from iqgs.engine.reconstruction import Reconstruction
from iqgs.engine.stages import StepReport, check_finite, detached_floats, step_generator
from iqgs.types import SegmentationMethod, StepInputs
from scene.dataset import Scene
from scene.gaussian_model import GaussianModel
from scene.view import View
from utils.schedules import cosine

NEIGHBOR_REFRESH = 200  # steps after which moved splats get their neighbours anew


class JointTraining(Reconstruction):
    """Every step fits colour, and where the view has masks also instances.

    The instance loss is detached from geometry unless `--instance_moves_geometry`; it never
    drives densification.
    """

    name = "joint"

    def __init__(
        self,
        config: RunConfig,
        scene: Scene,
        gaussians: GaussianModel,
        background: Tensor,
        method: SegmentationMethod,
    ) -> None:
        super().__init__(config, scene, gaussians, background)
        self.method = method
        self.segmentation = config.segmentation
        self.decoder_optimizer = torch.optim.Adam(
            [{**group, "lr": 0.0} for group in method.parameter_groups()], eps=ADAM_EPS
        )
        self._add_instance_group()
        self._neighbors: NeighborPairs | None = None
        self._neighbors_key = (-1, -1)

    def _add_instance_group(self) -> None:
        """The attribute shares the splats' optimizer, so densification edits its moments too."""
        self.optimizer.add_param_group(
            {"params": [self.gaussians.params["instance"]], "name": "instance", "lr": 0.0}
        )

    def prepare(self, iteration: int) -> None:
        super().prepare(iteration)
        final, steps = self.segmentation.lr_iqgs_final, self.options.iterations
        for group in self.optimizer.param_groups:
            if group["name"] == "instance":
                group["lr"] = cosine(iteration, self.segmentation.lr_instance, final, steps)
        for group in self.decoder_optimizer.param_groups:
            group["lr"] = cosine(iteration, self.segmentation.lr_iqgs, final, steps)

    def step(self, iteration: int) -> StepReport:
        """One view: colour terms and instance terms, one optimizer step for both."""
        self.prepare(iteration)
        view = self.scene.train[self.sampler.draw()]
        rendered = self.render_view(view, iteration)
        terms = self.terms(rendered, view, iteration)
        total = total_loss(terms, self.weights(iteration))
        if view.masks is not None:
            instance_terms = self.method.terms(self._inputs(view, iteration))
            total = total + total_loss(instance_terms, self.method.weights)
            terms = {**terms, **instance_terms}
        check_finite(total, terms, iteration, view.name)
        total.backward()
        self.decoder_optimizer.step()
        self.decoder_optimizer.zero_grad(set_to_none=True)
        self.advance(iteration, rendered)
        return StepReport(view.name, float(total.detach()), detached_floats(terms))

    def _inputs(self, view: View, iteration: int) -> StepInputs:
        generator = step_generator(self.config.train.seed, iteration, 2)
        gaussians, camera = self.gaussians, view.camera
        size = camera.width * camera.height
        count = self.segmentation.pixels_per_step or size
        pixels = torch.arange(size) if count >= size else torch.randperm(size, generator=generator)
        pixels = pixels[:count].to(gaussians.device)
        detached = not self.segmentation.instance_moves_geometry

        def splat_values(values: Tensor) -> Tensor:
            image = splat(
                camera,
                gaussians,
                values,
                detach_geometry=detached,
                backend=self.config.pipeline.backend,
            )
            return image.flatten(1).T[pixels]

        instance = gaussians.instance
        ones = torch.ones(len(gaussians), 1, device=gaussians.device)
        rendered = splat_values(torch.cat([instance, ones], 1))
        return StepInputs(
            features=rendered[:, :-1],
            labels=view_labels(view, pixels),
            instance=instance,
            touched=torch.arange(len(gaussians), device=gaussians.device),
            splat=splat_values,
            pairs=self._pairs(iteration, generator),
            alpha=rendered[:, -1].detach(),
        )

    def _pairs(self, iteration: int, generator: torch.Generator) -> Tensor:
        key = (len(self.gaussians), iteration // NEIGHBOR_REFRESH)
        if self._neighbors is None or key != self._neighbors_key:
            self._neighbors = NeighborPairs(self.gaussians.means, self.segmentation.reg3d_k)
            self._neighbors_key = key
        wanted = self.segmentation.reg3d_sample_size
        return self._neighbors.sample(
            0 if iteration % self.segmentation.reg3d_interval else wanted, generator
        )

    def state_dict(self) -> dict[str, Any]:
        graph = None if self._neighbors is None else self._neighbors.indices
        return {
            **super().state_dict(),
            "decoder_optimizer": self.decoder_optimizer.state_dict(),
            "neighbors": graph,
            "neighbors_key": list(self._neighbors_key),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.decoder_optimizer.load_state_dict(state["decoder_optimizer"])
        if state["neighbors"] is not None:
            graph = state["neighbors"].to(self.gaussians.device)  # checkpoints are read to the CPU
            self._neighbors = NeighborPairs.from_indices(graph)
        first, second = state["neighbors_key"]
        self._neighbors_key = (int(first), int(second))
