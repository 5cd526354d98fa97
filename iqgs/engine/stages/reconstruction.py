# SPDX-License-Identifier: Apache-2.0
"""The first stage: colour, and what terms their geometry has, move the splats (2DGS, 3DGS)."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arguments import OptimizationParams, RunConfig
from diff_surfel_rasterization.losses import image_loss
from gaussian_renderer import Renderer, RenderOutput, primitive_of
from iqgs.engine.stages.finite import gradients_of
from iqgs.engine.stages.protocol import StepLoss, step_generator
from iqgs.methods.protocol import total_loss
from scene.dataset import Scene
from scene.densification import Densifier, DensifyThresholds
from scene.gaussian_model import GaussianModel
from scene.optimizer import make_optimizer, set_rates
from scene.sampler import ViewSampler
from scene.view import View
from utils.schedules import log_linear

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
    """Rate of each parameter at a step; positions fall log-linearly, the rest to `lr_final`."""
    scale = learning_rate_scale(options)
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
    rendered: RenderOutput, image: Tensor, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """L1 and 1 - SSIM between a rendered view and its photograph [3, H, W].

    `valid` [H, W]: the pixels that the photograph shows; None for all.
    """
    l1, dssim = image_loss(rendered.color, image, valid)
    return {"l1": l1, "dssim": dssim}


@dataclass(frozen=True)
class ColorStep:
    """One rendered training view, with gradients."""

    view: View
    rendered: RenderOutput


class Reconstruction:
    """Fits splats to photographs, one view a step."""

    name = "reconstruction"
    learns_instances = False
    cheap_steps = False

    def __init__(
        self, config: RunConfig, scene: Scene, gaussians: GaussianModel, renderer: Renderer
    ) -> None:
        self.config, self.scene, self.gaussians = config, scene, gaussians
        self.renderer = renderer
        self.options = config.optimization
        asked = {name for name in GEOMETRY_TERMS if self.weights()[name] > 0}
        unknown = asked - primitive_of(gaussians).terms
        if unknown:
            raise ValueError(f"splats of kind {gaussians.kind} have no term {sorted(unknown)}")
        self.first, self.last = 1, self.options.iterations
        rates = learning_rates(self.options, scene.extent, 0)
        self.optimizer = make_optimizer(gaussians, rates, ADAM_EPS)
        self.densifier = make_densifier(config, scene, gaussians, self.optimizer)
        self.sampler = ViewSampler(len(scene.train), config.train.seed)

    def loss(self, iteration: int) -> StepLoss:
        """Render one view and compare it with its photograph."""
        self.prepare(iteration)
        view = self.scene.train[self.sampler.draw()]
        rendered = self.render_view(view, iteration)
        terms = self.terms(rendered, view, iteration)
        return StepLoss(
            view.name, terms, total_loss(terms, self.weights()), ColorStep(view, rendered)
        )

    def parameters(self) -> list[Tensor]:
        """Everything that the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradients(self, step: StepLoss) -> dict[str, Tensor]:
        """Those of the splats' parameters."""
        return gradients_of(self.optimizer)

    def update(self, iteration: int, step: StepLoss) -> None:
        """Move the splats, and densify when it is time."""
        rendered = step.carried.rendered
        signal = rendered.screen_grad.grad
        if signal is not None:
            self.densifier.observe(rendered.radii, signal[:, :2])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.densifier.step(iteration, step_generator(self.config.train.seed, iteration, 1))

    def prepare(self, iteration: int) -> None:
        """Set the rates and the active bands of the step."""
        set_rates(self.optimizer, learning_rates(self.options, self.scene.extent, iteration))
        bands = min(self.gaussians.sh_degree, iteration // self.options.sh_interval)
        self.gaussians.active_sh_degree = bands

    def uses_normals(self, iteration: int) -> bool:
        """Whether the normal term is on: it alone needs surface normals."""
        return self.options.lambda_normal > 0 and iteration >= self.options.normal_from_iter

    def screen_signal(self, iteration: int) -> str:
        """Which signal the densifier wants; the absolute one costs a fifth of the backward pass."""
        growing = self.densifier.is_active(iteration)
        return "absolute" if growing and self.options.densify_rule == "budget" else "signed"

    def render_view(self, view: View, iteration: int) -> RenderOutput:
        """The view with gradients to all that this stage learns (no instances)."""
        return self.renderer.render(
            view.camera,
            self.gaussians,
            with_instance=False,
            with_surface=self.uses_normals(iteration),
            screen_signal=self.screen_signal(iteration),
        )

    def terms(self, rendered: RenderOutput, view: View, iteration: int) -> dict[str, Tensor]:
        """Unweighted terms; those whose weight is zero at this step are not computed."""
        device = self.gaussians.device
        terms = photometric_terms(rendered, view.image_on(device), view.valid_on(device))
        if self.uses_normals(iteration):
            agreement = (rendered.normal * rendered.surface_normal).sum(0)
            terms["normal"] = (1 - agreement).mean()
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
        """Moments, densification statistics, view order."""
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
