# SPDX-License-Identifier: Apache-2.0
"""Where the Gaussians grow and shrink: thresholds, four verbs, and three rules that apply them.

The signal is the mean, over the views that see a splat, of the norm of its screen-space gradient.
Rule "threshold" (that of 2DGS and Gaussian Grouping): clone or split every splat above a threshold.
Rule "budget": prune, then add the splats with the largest signal so that N grows linearly to a cap.
Rule "relocation": nothing is pruned or divided; see `scene.relocation`. N grows like a budget's.
Pruning by size on the screen is left out: in the code of the family it never fires, because the
radii are cleared before they are read, and published numbers depend on that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from diff_surfel_rasterization.training import add_screen_signal
from scene.gaussian_model import GaussianModel
from scene.optimizer import edit_rows, replace_values
from scene.relocation import relocate
from utils.errors import DataError, RunError

SPLIT_CHILDREN = 2
SPLIT_SHRINK = 1.6  # scale of a child: two children, spread like their parent, cover it
RESET_OPACITY = 0.01  # low enough that only splats that the images need come back
RULES = ("threshold", "budget", "relocation")


@dataclass(frozen=True)
class DensifyThresholds:
    """When and how much; lengths in world units."""

    rule: str  # one of RULES
    interval: int  # iterations between two edits
    from_iter: int  # edits happen after this iteration
    until_iter: int  # threshold: before this iteration; others: up to and with it
    grad_threshold: float  # rule threshold: grow where the mean signal reaches this
    small_extent: float  # splats with a larger scale are split, not cloned
    min_opacity: float  # fainter splats are removed, or relocated
    max_extent: float  # splats with a larger scale are removed after the first reset; 0 = never
    opacity_reset_interval: int  # 0 = never
    cap: int  # how many splats to grow to; not of rule threshold

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"expected a rule of {RULES}, got {self.rule!r}")
        if self.interval < 1 or self.opacity_reset_interval < 0:
            raise ValueError("interval must be positive and opacity_reset_interval not negative")
        if self.rule != "threshold" and self.cap < 1:
            raise ValueError(f"rule {self.rule!r} needs a positive cap")


@dataclass(frozen=True)
class DensifyCounts:
    """What one step did; `total` is N afterwards."""

    cloned: int  # of rule relocation: added
    split: int
    pruned: int  # of rule relocation: relocated
    reset: bool
    total: int


class Densifier:
    """Collects the signal of every step and edits model and optimizer at its intervals."""

    def __init__(
        self,
        model: GaussianModel,
        optimizer: Optimizer,
        thresholds: DensifyThresholds,
        seed: int,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.thresholds, self.seed = thresholds, seed
        self.initial_count = len(model)
        self._clear_statistics()

    def _clear_statistics(self) -> None:
        n, device = len(self.model), self.model.device
        self.gradient_sum = torch.zeros(n, device=device)
        self.view_count = torch.zeros(n, device=device)

    @torch.no_grad()
    def observe(self, radii: Tensor, screen_grad: Tensor) -> None:
        """Add one view: `radii` [N] int32 (> 0 where visible), `screen_grad` [N, 3], whose third
        number is not read."""
        if len(radii) != len(self.model) or len(screen_grad) != len(self.model):
            raise ValueError(f"expected rows of {len(self.model)} splats, got {len(radii)}")
        add_screen_signal(self.gradient_sum, self.view_count, radii, screen_grad)

    @torch.no_grad()
    def add(self, signal: Tensor, views: Tensor) -> None:
        """Add views whose signals [N] were summed, with the number of views [N] that show each."""
        if len(signal) != len(self.model):
            raise ValueError(f"expected rows of {len(self.model)} splats, got {len(signal)}")
        self.gradient_sum += signal
        self.view_count += views

    def no_signal(self) -> tuple[Tensor, Tensor]:
        """Zeros [N] and [N] to sum the views of a step in, for `add`."""
        return torch.zeros_like(self.gradient_sum), torch.zeros_like(self.view_count)

    def is_active(self, iteration: int) -> bool:
        """Whether the model may be edited at this iteration."""
        until = self.thresholds.until_iter
        return iteration < until if self.thresholds.rule == "threshold" else iteration <= until

    def listens(self, iteration: int) -> bool:
        """Whether an edit at this iteration or later reads its statistics."""
        t = self.thresholds
        if t.rule == "relocation":  # goes by opacity
            return False
        until = t.until_iter if t.rule == "budget" else t.until_iter - 1
        last_edit = until // t.interval * t.interval
        return iteration <= last_edit and last_edit > t.from_iter

    @torch.no_grad()
    def step(self, iteration: int, generator: torch.Generator | None = None) -> DensifyCounts:
        """Edit the model if `iteration` (counted from 1) is due. Call after the optimizer's step.

        Children are scattered by `generator` (CPU), by default one of (seed, iteration): the same
        on every rank and after a resume. Raises RunError where no splat would be left.
        """
        t = self.thresholds
        cloned = split = pruned = 0
        reset = False
        if generator is None:
            generator = torch.Generator().manual_seed(_mix(self.seed, iteration))
        if self.is_active(iteration):
            if iteration > t.from_iter and iteration % t.interval == 0:
                rules = {
                    "threshold": self._grow_by_threshold,
                    "budget": self._grow_by_budget,
                    "relocation": self._relocate,
                }
                cloned, split, pruned = rules[t.rule](iteration, generator)
                self._clear_statistics()
            if t.opacity_reset_interval and iteration % t.opacity_reset_interval == 0:
                reset_opacity(self.model, self.optimizer)
                reset = True
        return DensifyCounts(cloned, split, pruned, reset, len(self.model))

    def _signal(self) -> Tensor:
        return self.gradient_sum / self.view_count.clamp_min(1)

    def _is_large(self) -> Tensor:
        return self.model.scales.amax(dim=1) > self.thresholds.small_extent

    def _grow_by_threshold(
        self, iteration: int, generator: torch.Generator
    ) -> tuple[int, int, int]:
        """Grow everywhere above the threshold, then prune; children are judged as well."""
        cloned, split = self._grow(self._signal() >= self.thresholds.grad_threshold, generator)
        return cloned, split, self._prune(iteration)

    def _grow_by_budget(self, iteration: int, generator: torch.Generator) -> tuple[int, int, int]:
        """Prune, then add what the linear plan allows, strongest signal first."""
        pruned = self._prune(iteration)
        signal = self._signal()
        chosen = _strongest(signal, signal > 0, self._planned(iteration) - len(self.model))
        return (*self._grow(chosen, generator), pruned)

    def _relocate(self, iteration: int, generator: torch.Generator) -> tuple[int, int, int]:
        """Put transparent splats where others are opaque, and more there up to the plan."""
        least, plan = self.thresholds.min_opacity, self._planned(iteration)
        moved, added = relocate(self.model, self.optimizer, least, plan, generator)
        return added, 0, moved

    def _planned(self, iteration: int) -> int:
        """How many splats there are to be: linear from the first to the cap."""
        t = self.thresholds
        done = (iteration - t.from_iter) / max(t.until_iter - t.from_iter, 1)
        return self.initial_count + round((t.cap - self.initial_count) * min(done, 1.0))

    def _grow(self, chosen: Tensor, generator: torch.Generator) -> tuple[int, int]:
        """Clone the small and split the large of `chosen` [N]; each adds one splat."""
        large = self._is_large()
        to_clone, to_split = chosen & ~large, chosen & large
        cloned, split = int(to_clone.sum()), int(to_split.sum())
        if cloned + split == 0:
            return 0, 0
        copies = clone(self.model, to_clone)
        children = split_within(self.model, to_split, generator)
        append = {name: torch.cat([copies[name], children[name]]) for name in copies}
        edit_rows(self.model, self.optimizer, ~to_split, append)
        return cloned, split

    def _prune(self, iteration: int) -> int:
        """Remove faint splats and, after the first reset, those of outrageous size."""
        t = self.thresholds
        keep = self.model.opacities[:, 0] >= t.min_opacity
        was_reset = 0 < t.opacity_reset_interval < iteration
        if t.max_extent and was_reset:
            keep &= self.model.scales.amax(dim=1) <= t.max_extent
        pruned = len(self.model) - int(keep.sum())
        if pruned == len(self.model):
            raise RunError(
                f"all {pruned} splats would be pruned at iteration {iteration}: "
                "lower --opacity_cull or the learning rates, or give better initial points"
            )
        if pruned:
            prune(self.model, self.optimizer, keep)
            if len(self.gradient_sum) == len(keep):  # by budget the signal is read after this
                self.gradient_sum, self.view_count = self.gradient_sum[keep], self.view_count[keep]
        return pruned

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to make the same edits."""
        return {
            "gradient_sum": self.gradient_sum,
            "view_count": self.view_count,
            "initial_count": self.initial_count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; the model must have been restored before."""
        if len(state["gradient_sum"]) != len(self.model):
            raise DataError("the densifier's statistics do not belong to these Gaussians")
        device = self.model.device
        self.gradient_sum = state["gradient_sum"].clone().to(device)
        self.view_count = state["view_count"].clone().to(device)
        self.initial_count = int(state["initial_count"])


def clone(model: GaussianModel, mask: Tensor) -> dict[str, Tensor]:
    """Raw values of a copy of every splat of `mask` [N], all attributes included."""
    return {name: p.detach()[mask].clone() for name, p in model.params.items()}


def split_within(
    model: GaussianModel, mask: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Raw values of two children for every splat of `mask` [N], to take its place.

    Their centres are drawn from the parent's own distribution, in its plane or in the ellipsoid,
    and their scales are the parent's / 1.6; all else is copied. Noise is drawn on the CPU, so
    that every device makes the same children.
    """
    values = {n: torch.cat([p] * SPLIT_CHILDREN) for n, p in clone(model, mask).items()}
    noise = torch.randn(values["log_scales"].shape, generator=generator).to(model.device)
    offsets = noise * values["log_scales"].exp()
    axes = model.axes().detach()[mask].repeat(SPLIT_CHILDREN, 1, 1)
    values["means"] = values["means"] + torch.einsum("nij,nj->ni", axes, offsets)
    values["log_scales"] = values["log_scales"] - math.log(SPLIT_SHRINK)
    return values


def prune(model: GaussianModel, optimizer: Optimizer | None, keep: Tensor) -> None:
    """Keep only the splats of boolean `keep` [N]."""
    edit_rows(model, optimizer, keep)


def reset_opacity(model: GaussianModel, optimizer: Optimizer | None) -> None:
    """Lower all opacities to at most 0.01 and forget their moments."""
    ceiling = math.log(RESET_OPACITY / (1 - RESET_OPACITY))
    lowered = model.params["opacity_logits"].detach().clamp_max(ceiling)
    replace_values(model, optimizer, "opacity_logits", lowered)


def _strongest(signal: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Mask [N] of the `count` candidates with the largest signal; ties go to the lower index."""
    chosen = torch.zeros_like(candidates)
    if count > 0:
        ranked = torch.where(candidates, signal, -torch.ones_like(signal))
        order = torch.sort(ranked, descending=True, stable=True).indices
        chosen[order[:count]] = True
    return chosen & candidates


def _mix(seed: int, iteration: int) -> int:
    """One generator seed per (seed, iteration)."""
    return (seed * 1_000_003 + iteration) % (1 << 63)
