# SPDX-License-Identifier: Apache-2.0
"""The second stage: instances are learned on frozen splats, through cached blending weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqgs.engine.lifting.neighbors import NeighborPairs
from iqgs.engine.lifting.weight_cache import SampledPixels, WeightCache, run_cache, sample_pixels
from iqgs.engine.run import MOST_VIEWS, Run
from iqgs.engine.stages.finite import gradients_of, naming
from iqgs.engine.stages.fitting import fit_view
from iqgs.engine.stages.protocol import StepLoss, step_generator
from iqgs.methods.protocol import ALL_TOUCHED, Batch, total_loss
from scene.lazy_adam import LazyAdam
from scene.sampler import ViewSampler
from scene.view import View
from utils.adam import Adam
from utils.schedules import cosine

ADAM_EPS = 1e-15  # the paper's
FEW_PIXELS = 16_384  # with fewer a step, torch's second thread costs more than it brings


def view_labels(view: View, pixels: Tensor) -> Tensor:
    """Compact ids [P] of a view at flat pixel indices."""
    if view.masks is None:
        raise ValueError(f"view {view.name} has no masks")
    return view.label_map_on(pixels.device).reshape(-1)[pixels].long()


@dataclass(frozen=True)
class LookedAt:
    """The rows of the attribute that a step looks at, and what the method wants to remember."""

    rows: Tensor  # [R] int64, ascending
    leaf: Tensor  # [R, D_obj], which collects the gradient
    seen: Any


class InstanceLearning:
    """Learns the instance attribute and the method on splats that do not move.

    A step costs what it looks at: gradient and moments exist only for the splats that its pixels
    and pairs touch.
    """

    name = "instances"
    learns_instances = True

    def __init__(self, run: Run, first: int, cache: WeightCache | None = None) -> None:
        """`cache`: weights of these splats that exist already."""
        self.run, self.options = run, run.config.segmentation
        self.method = run.learning_method
        self.views = run.masked_views()
        self.first, self.last = first, first + self.options.instance_iterations - 1
        self.cheap_steps = 0 < self.options.pixels_per_step < FEW_PIXELS
        self.attribute = LazyAdam(run.gaussians.params["instance"], ADAM_EPS)
        learned = [] if run.config.train.decoder else self.method.parameter_groups()
        groups = [{**group, "lr": self.options.lr_iqgs} for group in learned]
        # torch refuses no groups, but not an empty one: a method may learn the attribute alone.
        self.optimizer = Adam(groups or [{"params": []}], eps=ADAM_EPS)
        self.sampler = ViewSampler(len(self.views), run.config.train.seed)
        self.neighbors = NeighborPairs(run.gaussians.means, self.method.neighbors[0])
        self.cache = cache or run_cache(run, self.views)

    def loss(self, iteration: int) -> StepLoss:
        """Sample pixels of one view and compare them with its masks."""
        if iteration == self.first:
            self.method.fit(fit_view(self.run, view, i) for i, view in enumerate(self.views))
        index = self.sampler.draw()
        generator = step_generator(self.run.config.train.seed, iteration, 2)
        sampled = sample_pixels(self.cache.view(index), self.options.pixels_per_step, generator)
        _, wanted, interval = self.method.neighbors
        due = (iteration - self.first) % interval == 0
        if wanted == ALL_TOUCHED:
            pairs = self.neighbors.of(sampled.touched if due else sampled.touched[:0])
        else:
            pairs = self.neighbors.sample(wanted if due else 0, generator)
        batch, rows = self._batch(index, sampled, pairs)
        own = step_generator(self.run.config.train.seed, iteration, 3)
        batch = replace(batch, generator=own)
        with naming(iteration, self.views[index].name):
            made = self.method.terms(batch)
        total = total_loss(made.terms, self.method.weights)
        carried = LookedAt(rows, batch.instance, made.seen)
        return StepLoss(self.views[index].name, made.terms, total, carried)

    def _batch(self, index: int, sampled: SampledPixels, pairs: Tensor) -> tuple[Batch, Tensor]:
        """What the method sees, and which splats [R] that is about."""
        flat = pairs.reshape(-1)
        looked_at = torch.cat([sampled.touched, flat])
        rows = torch.unique(looked_at) if len(flat) else sampled.touched
        leaf = self.attribute.look_at(rows).requires_grad_()
        touched = torch.searchsorted(rows, sampled.touched)
        view, pixels = self.views[index], sampled.pixels
        batch = Batch(
            features=sampled.splat(leaf.index_select(0, touched)),
            labels=view_labels(view, pixels),
            instance=leaf,
            touched=touched,
            splat=sampled.splat,
            pairs=torch.searchsorted(rows, pairs),
            alpha=sampled.alpha,
            pixels=pixels,
            view=index,
            layers=lambda: view.patches_on(pixels.device).at(pixels),
        )
        return batch, rows

    def parameters(self) -> list[Tensor]:
        """The method's own parameters; the attribute's gradient is in the step's leaf."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """That of the rows that the step looked at, and those of the method."""
        leaf = step.carried.leaf.grad
        return {**({} if leaf is None else {"instance": leaf}), **gradients_of(self.optimizer)}

    def update(self, iteration: int, step: StepLoss) -> None:
        """Move attribute, queries and decoder."""
        looked: LookedAt = step.carried
        done, steps = iteration - self.first, self.options.instance_iterations
        falling = cosine(done, 1.0, self.options.lr_iqgs_final, steps)
        self.method.observe(looked.seen)
        gradient = looked.leaf.grad
        gradient = torch.zeros_like(looked.leaf) if gradient is None else gradient
        self.attribute.step(looked.rows, gradient, self.options.lr_instance * falling)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr_iqgs * falling
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def rewind(self) -> None:
        """Put the view back."""
        self.sampler.put_back()

    @contextmanager
    def up_to_date(self) -> Iterator[None]:
        """Inside, every splat's attribute is as after the last step; then all is as it was."""
        parameter = self.run.gaussians.params["instance"]
        resting = parameter.detach().clone()
        parameter.data.copy_(self.attribute.current())
        try:
            yield
        finally:
            parameter.data.copy_(resting)

    def seen(self) -> Tensor:
        """What the cached views show; those that stand for all are made where they are missing."""
        numbers = range(len(self.views))[:: max(1, -(-len(self.views) // MOST_VIEWS))]
        bits = [self.cache.view(index).shown for index in numbers]
        union = functools.reduce(torch.bitwise_or, bits).numpy()
        seen = np.unpackbits(union, count=len(self.run.gaussians)).astype(bool)
        return torch.from_numpy(seen).to(self.run.gaussians.device)

    def state_dict(self) -> dict[str, Any]:
        """Moments and view order; the cache is made again from the frozen splats."""
        return {
            "attribute": self.attribute.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.attribute.load_state_dict(state["attribute"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
