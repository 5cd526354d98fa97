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
from torch import Tensor, nn

from iqgs.engine.lifting.mask_edges import edge_positions
from iqgs.engine.lifting.neighbors import NeighborPairs
from iqgs.engine.lifting.reblending import Reblended
from iqgs.engine.lifting.weight_cache import (
    EdgePixels,
    SampledPixels,
    WeightCache,
    run_cache,
    sample_pixels,
)
from iqgs.engine.ranks import Ranks
from iqgs.engine.run import MOST_VIEWS, Run
from iqgs.engine.stages.finite import gradients_of, naming
from iqgs.engine.stages.fitting import fit_view
from iqgs.engine.stages.protocol import StepLoss, step_generator
from iqgs.engine.stages.trust import Trust
from iqgs.methods.protocol import ALL_TOUCHED, Batch, total_loss
from scene.lazy_adam import LazyAdam
from scene.parameters import INSTANCE_OPACITY
from scene.sampler import ViewSampler
from scene.view import View
from utils.adam import fastest_adam
from utils.schedules import cosine

ADAM_EPS = 1e-15  # the paper's
STATE_NAMES = {"instance": "attribute", INSTANCE_OPACITY: "opacity"}  # in a checkpoint
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
    leaves: dict[str, Tensor]  # [R, C] by the parameter's name, which collect the gradients
    seen: Seen | None


@dataclass(frozen=True)
class Seen:
    """What a view leaves to be remembered."""

    method: Any  # for its `observe`
    doubt: Tensor | None  # as in `StepTerms`


class RowNumbering:
    """The rows among N that a step looks at, and their places in that list: by tables that stay,
    since sorting the rows and looking every one up takes several times as long.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._marked = torch.zeros(count, dtype=torch.bool, device=device)
        # [N] int64: where a row of the last list stands in it; of other rows any number.
        self.place = torch.zeros(count, dtype=torch.int64, device=device)

    def rows_of(self, *parts: Tensor) -> Tensor:
        """All rows [R] int64 that occur in these index tensors of any shape, ascending."""
        for part in parts:
            self._marked[part.reshape(-1)] = True
        rows = self._marked.nonzero()[:, 0]
        self._marked[rows] = False
        self.place[rows] = torch.arange(len(rows), device=rows.device)
        return rows


class InstanceLearning:
    """Learns the instance attribute and the method on splats that do not move.

    With `lr_instance_opacity` each splat also learns the opacity that its attribute is rendered
    with. What is glass or a reflection in a photograph may cover what is behind it where instances
    are asked for, and the other way round; colours stay as they are.

    A step costs what it looks at: gradients and moments exist only for the splats that its pixels
    and pairs touch.
    """

    name = "instances"
    learns_instances = True

    def __init__(self, run: Run, first: int, cache: WeightCache | None = None) -> None:
        """`cache`: weights of these splats that exist already."""
        self.run, self.options = run, run.config.segmentation
        self.method = run.learning_method
        self.views, self.size = run.masked_views(), run.config.optimization.batch_size
        self._edges: dict[int, Tensor] = {}  # positions among the kept pixels of a view
        # Rows of the step's views, with gradients by the parameter's name.
        self._looked: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.first, self.last = first, first + self.options.instance_iterations - 1
        self.cheap_steps = 0 < self.options.pixels_per_step < FEW_PIXELS
        names = ["instance"]
        # Whole views are never listed pixel by pixel: they are for those who have little memory.
        if self.options.lr_instance_opacity > 0 and self.options.pixels_per_step > 0:
            names.append(INSTANCE_OPACITY)
            opacity = run.gaussians.params["opacity_logits"].detach()
            run.gaussians.params.setdefault(INSTANCE_OPACITY, nn.Parameter(opacity.clone()))
        self.tables = {name: LazyAdam(run.gaussians.params[name], ADAM_EPS) for name in names}
        learned = [] if run.config.train.decoder else self.method.parameter_groups()
        groups = [{**group, "lr": self.options.lr_iqgs} for group in learned]
        # torch refuses no groups, but not an empty one: a method may learn the attribute alone.
        self.optimizer = fastest_adam(groups or [{"params": []}], eps=ADAM_EPS)
        assert run.facts is not None
        self.trust = Trust(first, self.options.instance_iterations, run.facts.noisy)
        self.sampler = ViewSampler(len(self.views), run.config.train.seed)
        self.neighbors = NeighborPairs(run.gaussians.means, self.method.neighbors[0])
        self.numbering = RowNumbering(len(run.gaussians), run.gaussians.device)
        self.cache = cache or run_cache(run, self.views)

    def draw(self, iteration: int) -> list[int]:
        """Show the method all views before the first step; choose the views of this one."""
        if iteration == self.first:
            self.method.fit(fit_view(self.run, view, i) for i, view in enumerate(self.views))
        self._looked = []
        return self.sampler.batch(self.size)

    def loss(self, iteration: int, view: int, slot: int = 0) -> StepLoss:
        """Sample pixels of one view and compare them with its masks."""
        generator = step_generator(self.run.config.train.seed, iteration, 2, slot)
        sampled = self._sampled(view, generator)
        if INSTANCE_OPACITY in self.tables:
            sampled = sampled.listed()
        _, wanted, interval = self.method.neighbors
        due = (iteration - self.first) % interval == 0
        if wanted == ALL_TOUCHED:
            pairs = self.neighbors.of(sampled.touched if due else sampled.touched[:0])
        else:
            pairs = self.neighbors.sample(wanted if due else 0, generator)
        batch, looked = self._batch(view, sampled, pairs)
        own = step_generator(self.run.config.train.seed, iteration, 3, slot)
        batch = replace(batch, generator=own)
        with naming(iteration, self.views[view].name):
            made = self.method.terms(batch)
        total = total_loss(made.terms, self.method.weights)
        carried = replace(looked, seen=Seen(made.seen, made.doubt))
        return StepLoss(self.views[view].name, made.terms, total, carried)

    def _sampled(self, view: int, generator: torch.Generator) -> SampledPixels:
        """The pixels of a step, a share of them from the edges of the view's masks."""
        cached, share, edges = self.cache.view(view), self.options.edge_pixels, None
        if share > 0 and self.trust.at_edges:
            if view not in self._edges:
                labels = self.views[view].label_map_on(torch.device("cpu"))
                kept = None if cached.pixels is None else cached.pixels.cpu()
                self._edges[view] = edge_positions(labels, kept)
            edges = EdgePixels(self._edges[view], share)
        return sample_pixels(cached, self.options.pixels_per_step, generator, edges)

    def _batch(self, index: int, sampled: SampledPixels, pairs: Tensor) -> tuple[Batch, LookedAt]:
        """What the method sees, and which splats that is about."""
        rows = self.numbering.rows_of(sampled.touched, pairs)
        leaves = {n: table.look_at(rows).requires_grad_() for n, table in self.tables.items()}
        touched = self.numbering.place[sampled.touched]
        view, pixels, leaf = self.views[index], sampled.pixels, leaves["instance"]
        blended: SampledPixels | Reblended = sampled
        if INSTANCE_OPACITY in leaves:
            colors = self.run.gaussians.params["opacity_logits"].detach()[sampled.touched]
            blended = Reblended.of(sampled, colors, leaves[INSTANCE_OPACITY][touched])
        splat = blended.splat if self.trust.trusting else blended.splat_still
        batch = Batch(
            features=splat(leaf.index_select(0, touched)),
            labels=view_labels(view, pixels),
            instance=leaf,
            touched=touched,
            splat=blended.splat_still,
            pairs=self.numbering.place[pairs],
            alpha=blended.alpha,
            pixels=pixels,
            view=index,
            layers=lambda: view.patches_on(pixels.device).at(pixels),
            regions=lambda: view.regions_on(pixels.device).reshape(-1)[pixels],
        )
        return batch, LookedAt(rows, leaves, None)

    def parameters(self) -> list[Tensor]:
        """The method's own parameters; the attribute's gradient is in the step's leaves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """Those of the rows that the view looked at, and those of the method."""
        own = {n: leaf.grad for n, leaf in step.carried.leaves.items() if leaf.grad is not None}
        return {**own, **gradients_of(self.optimizer)}

    def take(self, step: StepLoss) -> Any:
        """Keep the rows that the view looked at, with their gradients."""
        looked: LookedAt = step.carried
        gradients = {
            name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            for name, leaf in looked.leaves.items()
        }
        self._looked.append((looked.rows, gradients))
        return looked.seen

    @torch.no_grad()
    def exchange(self, ranks: Ranks, seen: list[Any]) -> list[Any]:
        """Sum the gradients of the method, and of all rows that any view looked at."""
        if self.size == 1:
            return seen
        splats = self.run.gaussians
        looked_at = torch.zeros(len(splats), dtype=torch.uint8, device=splats.device)
        for rows, _ in self._looked:
            looked_at[rows] = 1
        ranks.any_(looked_at)
        every = looked_at.nonzero().flatten()
        totals = {}
        for name, table in self.tables.items():
            totals[name] = table.look_at(every).zero_()  # those of other views too
            for rows, gradients in self._looked:
                totals[name][torch.searchsorted(every, rows)] += gradients[name]
        ranks.sum_gradients(self.parameters(), list(totals.values()))
        self._looked = [(every, totals)]
        return ranks.in_order(seen, splats.device)

    def update(self, iteration: int, seen: list[Any]) -> None:
        """Move attribute, opacities, queries and decoder."""
        done, steps = iteration - self.first, self.options.instance_iterations
        falling = cosine(done, 1.0, self.options.lr_iqgs_final, steps)
        for left in seen:
            self.method.observe(left.method)
        self.trust.update(iteration, [left.doubt for left in seen])
        ((rows, gradients),) = self._looked
        self._looked = []
        rates = (self.options.lr_instance, self.options.lr_instance_opacity)
        for rate, (name, table) in zip(rates, self.tables.items(), strict=False):
            table.step(rows, gradients[name], rate * falling)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr_iqgs * falling
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def rewind(self) -> None:
        """Put the view back."""
        self.sampler.put_back()

    @contextmanager
    def up_to_date(self) -> Iterator[None]:
        """Inside, what splats learn is as after the last step; then all is as it was."""
        resting = {name: table.parameter.detach().clone() for name, table in self.tables.items()}
        for table in self.tables.values():
            table.parameter.data.copy_(table.current())
        try:
            yield
        finally:
            for name, table in self.tables.items():
                table.parameter.data.copy_(resting[name])

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
            **{STATE_NAMES[name]: table.state_dict() for name, table in self.tables.items()},
            "trust": self.trust.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for name, table in self.tables.items():
            table.load_state_dict(state[STATE_NAMES[name]])
        if "trust" in state:  # older versions had no use for it
            self.trust.load_state_dict(state["trust"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
