# SPDX-License-Identifier: Apache-2.0
"""The second stage: instances are learned on frozen splats, through cached blending weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arguments import RunConfig, SegmentationParams
from diff_surfel_rasterization import QuadWeights
from gaussian_renderer import view_quads
from iqgs.criterion import total_loss
from iqgs.decoder import select_rows
from iqgs.engine.stages import StepReport, check_finite, detached_floats, step_generator
from iqgs.engine.weight_cache import MIN_WEIGHT, SampledPixels, WeightCache, sample_pixels
from iqgs.engine.weight_files import WeightFiles, geometry_digest, view_fingerprint
from iqgs.types import SegmentationMethod, StepInputs
from scene.dataset import Scene
from scene.gaussian_model import GaussianModel
from scene.sampler import ViewSampler
from scene.view import View
from utils.neighbors import nearest_neighbors
from utils.schedules import cosine

logger = logging.getLogger(__name__)

ADAM_EPS = 1e-15  # the paper's
GIB = 2**30


class NeighborPairs:
    """The pairs of Eq. 13: every splat with its k nearest, itself left out."""

    def __init__(self, means: Tensor, k: int) -> None:
        count = min(k, len(means) - 1)
        self.indices, _ = nearest_neighbors(means.detach(), max(count, 0))

    @classmethod
    def from_indices(cls, indices: Tensor) -> NeighborPairs:
        """Pairs of a graph [N, k] that was found before."""
        pairs = cls.__new__(cls)
        pairs.indices = indices
        return pairs

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Pairs [E, 2] of `count` random splats with their neighbours."""
        total, k = self.indices.shape
        if k == 0:
            return torch.empty(0, 2, dtype=torch.int64, device=self.indices.device)
        chosen = torch.randint(total, (min(count, total),), generator=generator)
        chosen = chosen.to(self.indices.device)
        return torch.stack([chosen.repeat_interleave(k), self.indices[chosen].reshape(-1)], 1)


def view_labels(view: View, pixels: Tensor) -> Tensor:
    """Compact ids [P] of a view at flat pixel indices."""
    if view.masks is None:
        raise ValueError(f"view {view.name} has no masks")
    return view.label_map_on(pixels.device).reshape(-1)[pixels].long()


def make_instance_optimizer(
    options: SegmentationParams, gaussians: GaussianModel, method: SegmentationMethod
) -> torch.optim.Adam:
    """One Adam over the instance attribute and the method's own parameters."""
    groups: list[dict[str, Any]] = [
        {"name": "instance", "params": [gaussians.params["instance"]], "lr": options.lr_instance}
    ]
    groups += [{**group, "lr": options.lr_iqgs} for group in method.parameter_groups()]
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, eps=ADAM_EPS)


class InstanceLearning:
    """Learns the instance attribute and the method on splats that do not move."""

    name = "instances"

    def __init__(
        self,
        config: RunConfig,
        scene: Scene,
        gaussians: GaussianModel,
        method: SegmentationMethod,
        first: int,
    ) -> None:
        self.config, self.options = config, config.segmentation
        self.gaussians, self.method = gaussians, method
        self.views = [view for view in scene.train if view.mask_path is not None]
        self.first, self.last = first, first + self.options.instance_iterations - 1
        self.optimizer = make_instance_optimizer(self.options, gaussians, method)
        self.sampler = ViewSampler(len(self.views), config.train.seed)
        self.neighbors = NeighborPairs(gaussians.means, self.options.reg3d_k)
        self.cache = WeightCache(
            len(self.views),
            self._weights,
            self.options.cache_gb * GIB,
            config.train.seed,
            self._weight_files(),
        )

    def _weights(self, index: int) -> QuadWeights:
        return view_quads(
            self.views[index].camera,
            self.gaussians,
            MIN_WEIGHT,
            backend=self.config.pipeline.backend,
        )

    def _weight_files(self) -> WeightFiles | None:
        if not self.options.cache_path:
            return None
        splats = geometry_digest(self.gaussians)
        return WeightFiles(
            Path(self.options.cache_path),
            lambda index: view_fingerprint(splats, self.views[index].camera, MIN_WEIGHT),
            self.gaussians.device,
        )

    def step(self, iteration: int) -> StepReport:
        """Sample pixels of one view, compare, move attribute, queries and decoder."""
        for group in self.optimizer.param_groups:
            group["lr"] = cosine(
                iteration - self.first,
                group["initial_lr"],
                self.options.lr_iqgs_final,
                self.options.instance_iterations,
            )
        index = self.sampler.draw()
        generator = step_generator(self.config.train.seed, iteration, 2)
        sampled = sample_pixels(self.cache.view(index), self.options.pixels_per_step, generator)
        labels = view_labels(self.views[index], sampled.pixels)
        terms = self.method.terms(self._inputs(sampled, labels, iteration, generator))
        total = total_loss(terms, self.method.weights)
        check_finite(total, terms, iteration, self.views[index].name)
        total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepReport(self.views[index].name, float(total.detach()), detached_floats(terms))

    def _inputs(
        self, sampled: SampledPixels, labels: Tensor, iteration: int, generator: torch.Generator
    ) -> StepInputs:
        instance = self.gaussians.instance
        wanted = self.options.reg3d_sample_size
        if (iteration - self.first) % self.options.reg3d_interval:
            wanted = 0
        return StepInputs(
            features=sampled.splat(select_rows(instance, sampled.touched)),
            labels=labels,
            instance=instance,
            touched=sampled.touched,
            splat=sampled.splat,
            pairs=self.neighbors.sample(wanted, generator),
            alpha=sampled.alpha,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and view order; the cache is made again from the frozen splats."""
        return {"optimizer": self.optimizer.state_dict(), "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
