# SPDX-License-Identifier: Apache-2.0
"""The first stage: colour, and what terms their geometry has, move the splats (2DGS, 3DGS)."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from arguments import OptimizationParams, RunConfig
from diff_surfel_rasterization.losses import image_loss
from diff_surfel_rasterization.training import add_screen_signal
from gaussian_renderer import Renderer, RenderOutput, primitive_of
from iqgs.engine.ranks import Ranks
from iqgs.engine.stages.finite import gradients_of
from iqgs.engine.stages.protocol import StepLoss, step_generator
from iqgs.methods.protocol import total_loss
from scene.dataset import Scene
from scene.densification import Densifier, DensifyThresholds
from scene.exposure import Exposures
from scene.gaussian_model import GaussianModel
from scene.optimizer import make_optimizer, set_rates
from scene.relocation import perturb
from scene.sampler import ViewSampler
from scene.view import View
from utils.schedules import log_linear, warm_up

ADAM_EPS = 1e-15  # 3DGS's: splats with vanishing gradients still move
REST_LR_DIVISOR = 20.0  # higher bands of the spherical harmonics learn this much slower
PRUNE_WORLD_SHARE = 0.1  # after the first opacity reset: splats wider than this of the extent go
SPLATS_PER_PIXEL = 0.8  # automatic cap: about one splat a pixel of a view is enough
MOST_AUTOMATIC_SPLATS = 200_000  # and no more than this unless --splat_cap says so
GEOMETRY_TERMS = ("normal", "distortion")  # not every kind of splats has them
REFERENCE_LENGTH = 30_000  # steps for which the literal learning rates were chosen


def learning_rate_scale(options: OptimizationParams) -> float:
    """`--lr_scale`, or sqrt(30000 / iterations) within [1, 5]: short runs need larger steps."""
    if options.lr_scale > 0:
        return options.lr_scale
    return min(5.0, max(1.0, math.sqrt(REFERENCE_LENGTH / options.iterations)))


def learning_rates(options: OptimizationParams, extent: float, iteration: int) -> dict[str, float]:
    """Rate of each parameter at a step; positions fall log-linearly, the rest to `lr_final`.

    All of them rise from zero over the first `warmup_steps`.
    """
    scale = learning_rate_scale(options) * warm_up(iteration, options.warmup_steps)
    steps = options.position_lr_max_steps or options.iterations
    position = log_linear(iteration, options.position_lr_init, options.position_lr_final, steps)
    rest = scale * log_linear(iteration, 1.0, options.lr_final, options.iterations)
    return {
        "means": position * extent * scale,
        "sh_dc": options.feature_lr * rest,
        "sh_rest": options.feature_lr / REST_LR_DIVISOR * rest,
        "opacity_logits": options.opacity_lr * rest,
        "log_scales": options.scaling_lr * rest,
        "quaternions": options.rotation_lr * rest,
        "exposure": log_linear(
            iteration, options.exposure_lr_init, options.exposure_lr_final, options.iterations
        ),
    }


def splat_cap(options: OptimizationParams, scene: Scene, start: int) -> int:
    """How many splats the budget rule grows to."""
    if options.splat_cap:
        return options.splat_cap
    camera = scene.train[0].camera
    wished = int(SPLATS_PER_PIXEL * camera.width * camera.height)
    return max(start, min(wished, MOST_AUTOMATIC_SPLATS))


def make_densifier(
    config: RunConfig, scene: Scene, gaussians: GaussianModel, optimizer: torch.optim.Optimizer
) -> Densifier:
    """The densifier of a run, from its settings."""
    options = config.optimization
    thresholds = DensifyThresholds(
        rule=options.densify_rule,
        interval=options.densification_interval,
        from_iter=options.densify_from_iter,
        until_iter=options.densify_until_iter,
        grad_threshold=options.densify_grad_threshold,
        small_extent=options.percent_dense * scene.extent,
        min_opacity=options.opacity_cull,
        max_extent=PRUNE_WORLD_SHARE * scene.extent,
        opacity_reset_interval=options.opacity_reset_interval,
        cap=splat_cap(options, scene, len(gaussians)),
    )
    return Densifier(gaussians, optimizer, thresholds, config.train.seed)


def photometric_terms(
    rendered: RenderOutput,
    image: Tensor,
    valid: Tensor | None = None,
    taken: Tensor | None = None,
) -> dict[str, Tensor]:
    """L1 and 1 - SSIM between a rendered view and its photograph [3, H, W].

    `valid` [H, W]: the pixels that the photograph shows; None for all. `taken` [3, H, W]: the
    rendered colours as the view's camera takes them; None where that is not fitted.
    """
    l1, dssim = image_loss(rendered.color if taken is None else taken, image, valid)
    return {"l1": l1, "dssim": dssim}


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of those of `values` [N] that boolean `chosen` [N] names; 0 where it names none."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)


@dataclass(frozen=True)
class ColorStep:
    """One rendered training view, with gradients."""

    view: View
    rendered: RenderOutput


class Reconstruction:
    """Fits splats to photographs, one view or a few a step."""

    name = "reconstruction"
    learns_instances = False
    cheap_steps = False

    def __init__(
        self,
        config: RunConfig,
        scene: Scene,
        gaussians: GaussianModel,
        renderer: Renderer,
        exposures: Exposures | None = None,
    ) -> None:
        """`exposures`: of the training views, where they are fitted too."""
        self.config, self.scene, self.gaussians = config, scene, gaussians
        self.renderer, self.exposures = renderer, exposures
        self.options = config.optimization
        asked = {name for name in GEOMETRY_TERMS if self.weights()[name] > 0}
        unknown = asked - primitive_of(gaussians).terms
        if unknown:
            raise ValueError(f"splats of kind {gaussians.kind} have no term {sorted(unknown)}")
        self.first, self.last = 1, self.options.iterations
        rates = learning_rates(self.options, scene.extent, 0)
        own = {name: rate for name, rate in rates.items() if name in gaussians.params}
        self.optimizer = make_optimizer(gaussians, own, ADAM_EPS)
        if exposures is not None:
            self.optimizer.add_param_group(
                {"params": exposures.parameters, "name": "exposure", "lr": 0.0}
            )
        self.densifier = make_densifier(config, scene, gaussians, self.optimizer)
        self.sampler = ViewSampler(len(scene.train), config.train.seed)
        self._signals: tuple[Tensor, Tensor] | None = None  # of the views of a step

    def draw(self, iteration: int) -> list[int]:
        """Set the rates and the active bands of the step, and choose its views."""
        set_rates(self.optimizer, learning_rates(self.options, self.scene.extent, iteration))
        bands = min(self.gaussians.sh_degree, iteration // self.options.sh_interval)
        self.gaussians.active_sh_degree = bands
        self._signals = None
        return self.sampler.batch(self.options.batch_size)

    def loss(self, iteration: int, view: int, slot: int = 0) -> StepLoss:
        """Render one view and compare it with its photograph."""
        shown = self.scene.train[view]
        rendered = self.render_view(shown, iteration)
        terms = self.terms(rendered, shown, iteration)
        return StepLoss(
            shown.name, terms, total_loss(terms, self.weights()), ColorStep(shown, rendered)
        )

    def parameters(self) -> list[Tensor]:
        """Everything that the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """Those of the splats' parameters."""
        return gradients_of(self.optimizer)

    @torch.no_grad()
    def take(self, step: StepLoss) -> Any:
        """Add the view's signal to that of the step: what its own loss gives, not its share."""
        rendered = step.carried.rendered
        if rendered.screen_grad is None or rendered.screen_grad.grad is None:
            return
        size = self.options.batch_size
        gradient = rendered.screen_grad.grad
        if self._signals is None:
            self._signals = self.densifier.no_signal()
        gradient = gradient if size == 1 else gradient * size
        add_screen_signal(*self._signals, rendered.radii, gradient)

    def exchange(self, ranks: Ranks, seen: list[Any]) -> list[Any]:
        """Sum gradients and signals over all processes."""
        self.exchange_of(ranks, self.parameters())
        return []

    @torch.no_grad()
    def exchange_of(self, ranks: Ranks, parameters: list[Tensor]) -> None:
        """Sum the gradients of these parameters and the signals of the step."""
        if ranks.world == 1:
            return
        if self._signals is None:
            self._signals = self.densifier.no_signal()
        ranks.sum_gradients(parameters, self._signals)

    def update(self, iteration: int, seen: list[Any]) -> None:
        """Move the splats, and densify when it is time."""
        if self._signals is not None:
            self.densifier.add(*self._signals)
            self._signals = None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.exposures is not None:
            self.exposures.fix_gauge()
        self.densifier.step(iteration, step_generator(self.config.train.seed, iteration, 1))
        if self.options.densify_rule == "relocation" and self.options.noise_lr > 0:
            self._perturb(iteration)

    def _perturb(self, iteration: int) -> None:
        """The noise of one step; the rate of positions is in world units, the extent takes them
        out."""
        rate = learning_rates(self.options, self.scene.extent, iteration)["means"]
        strength = self.options.noise_lr * rate / self.scene.extent**2
        perturb(self.gaussians, strength, step_generator(self.config.train.seed, iteration, 3))

    def uses_normals(self, iteration: int) -> bool:
        """Whether the normal term is on: it alone needs surface normals."""
        return self.options.lambda_normal > 0 and iteration >= self.options.normal_from_iter

    def screen_signal(self, iteration: int) -> str:
        """Which signal the densifier wants; none once it has made its last edit."""
        if not self.densifier.listens(iteration):
            return "none"
        return "absolute" if self.options.densify_rule == "budget" else "signed"

    def render_view(self, view: View, iteration: int) -> RenderOutput:
        """The view with gradients to all that this stage learns (no instances)."""
        renderer = self.renderer
        if self.options.random_background:
            generator = step_generator(self.config.train.seed, iteration, 4)
            renderer = replace(renderer, background=torch.rand(3, generator=generator))
        return renderer.render(
            view.camera,
            self.gaussians,
            with_instance=False,
            with_surface=self.uses_normals(iteration),
            screen_signal=self.screen_signal(iteration),
        )

    def terms(self, rendered: RenderOutput, view: View, iteration: int) -> dict[str, Tensor]:
        """Unweighted terms; those whose weight is zero at this step are not computed."""
        device = self.gaussians.device
        taken = None
        if self.exposures is not None:
            taken = self.exposures.apply(view.name, rendered.color)
        terms = photometric_terms(rendered, view.image_on(device), view.valid_on(device), taken)
        if self.exposures is not None and self.options.lambda_exposure > 0:
            terms["exposure"] = self.exposures.penalty(view.name)
        # Of what the view shows: Adam makes full steps of any gradient, so splats that other views
        # need would fade at its whole rate while these are not drawn.
        shown = rendered.radii > 0
        if self.options.opacity_reg > 0:
            terms["opacity"] = mean_of(self.gaussians.opacities[:, 0], shown)
        if self.options.scale_reg > 0:
            scales = self.gaussians.scales.mean(dim=1) / self.scene.extent
            terms["scale"] = mean_of(scales, shown)
        if self.uses_normals(iteration):
            terms["normal"] = rendered.normal_loss(self.renderer.backend)
        if self.options.lambda_dist > 0 and iteration >= self.options.dist_from_iter:
            terms["distortion"] = rendered.distortion.mean()
        return terms

    def weights(self) -> dict[str, float]:
        """Weight of every term that may occur."""
        options = self.options
        return {
            "l1": 1 - options.lambda_dssim,
            "dssim": options.lambda_dssim,
            "normal": options.lambda_normal,
            "distortion": options.lambda_dist,
            "exposure": options.lambda_exposure,
            "opacity": options.opacity_reg,
            "scale": options.scale_reg,
        }

    def rewind(self) -> None:
        """Put the view back."""
        self.sampler.put_back()

    def up_to_date(self) -> AbstractContextManager[None]:
        """They always are."""
        return nullcontext()

    def seen(self) -> Tensor | None:
        """Not known here."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Moments, densification statistics, view order; the exposures are kept by the run."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "densifier": self.densifier.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave; the Gaussians were put back before."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.densifier.load_state_dict(state["densifier"])
