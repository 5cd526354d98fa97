# SPDX-License-Identifier: Apache-2.0
"""Growing by relocation and noise (3D Gaussian Splatting as Markov Chain Monte Carlo, Kheradmand et
al., 2024), for flat splats and ellipsoids.

Splats that have become transparent are put where others are opaque. Where one splat of opacity o
becomes N in the same place, each gets the opacity o' with (1 - o')^N = 1 - o, so that the middle
stays as opaque as it was. N Gaussians of that opacity over each other are wider than one: their
blended profile is 1 - (1 - o' G)^N instead of o G, with G = exp(-r^2 / 2 s^2). The paper shrinks
them so that the integral along a *line* through the middle is kept. Here it is the integral over
the *plane* of the picture, which is what a pixel-sized or small splat contributes:

    integral of 1 - (1 - o' G)^N over the plane = 2 pi s'^2 sum over j = 1..N of (1 - (1 - o')^j)/j

(substitute t = o' G; (1 - (1 - t)^N) / t is a geometric series). That equals 2 pi s^2 o for
s'^2 = s^2 o / sum. The factor is the same for all scales of a splat and in every view, because a
splat's footprint is a Gaussian whose area goes with s^2, whether it is flat or not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scene.gaussian_model import GaussianModel, rotation_matrices
from scene.optimizer import edit_rows, forget_rows
from utils.errors import RunError

SHARPNESS, FAINT = (
    100.0,
    0.005,
)  # of the gate of the noise: on where opacities are below about FAINT
GATED = 0.1  # opacity from which the gate is closed: 1 / (1 + e^9.5) is 7e-5


def shared(opacity_logits: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """(opacity logits [M], factors [M] of the scales) of each of `copies` [M] >= 1 splats that take
    the place of one with `opacity_logits` [M].
    """
    logits, count = opacity_logits.double(), copies.double()
    clear = nn.functional.logsigmoid(-logits) / count  # log(1 - o')
    opacity = -torch.expm1(clear)
    total = torch.zeros_like(opacity)
    for j in range(1, int(copies.max()) + 1 if len(copies) else 1):
        total += torch.where(copies >= j, -torch.expm1(j * clear) / j, 0.0)
    factor = (logits.sigmoid() / total).sqrt()
    return (opacity.log() - clear).to(opacity_logits), factor.to(opacity_logits)


@torch.no_grad()
def relocate(
    model: GaussianModel,
    optimizer: Optimizer | None,
    min_opacity: float,
    target: int,
    generator: torch.Generator,
) -> tuple[int, int]:
    """Move splats of at most `min_opacity` onto opaque ones, and add more there up to `target`.

    Places are drawn in proportion to opacity. Returns (relocated, added); no splat is ever lost:
    a model larger than `target` keeps its size. Raises RunError where all are transparent.
    """
    opacities = model.opacities[:, 0]
    alive = opacities > min_opacity
    dead = len(model) - int(alive.sum())
    if dead == len(model):
        raise RunError(
            f"all {dead} splats have become transparent: lower --opacity_cull, --opacity_reg or "
            "the learning rates, or give better initial points"
        )
    added = max(0, target - len(model))
    if dead + added == 0:
        return 0, 0
    weights = torch.where(alive, opacities, 0.0).cpu().double()
    drawn = _draw(weights, dead + added, generator)
    extra = torch.bincount(drawn, minlength=len(model))
    chosen = extra.nonzero()[:, 0].to(model.device)
    extra = extra.to(model.device)
    logits, factor = shared(model.params["opacity_logits"][chosen, 0], extra[chosen] + 1)
    model.params["opacity_logits"].data[chosen, 0] = logits
    model.params["log_scales"].data[chosen] += factor.log()[:, None]
    forget_rows(model, optimizer, chosen)
    copies = {
        n: p.detach()[chosen].repeat_interleave(extra[chosen], 0) for n, p in model.params.items()
    }
    edit_rows(model, optimizer, alive, copies)
    return dead, added


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` row numbers in proportion to `weights` [N] float64, with replacement, on the CPU."""
    edges = weights.cumsum(0)
    places = torch.rand(count, generator=generator, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, places, right=True).clamp_max(len(weights) - 1)


@torch.no_grad()
def perturb(model: GaussianModel, strength: float, generator: torch.Generator) -> None:
    """Let faint splats wander: means += strength * gate(opacity) * Sigma eta, eta normal.

    Sigma is the splat's covariance, so a flat one stays in its plane; the gate is
    1 / (1 + exp(100 (o - 0.005))). `strength` in 1 / world units. Noise is drawn on the CPU.
    """
    noise = torch.randn(model.params["log_scales"].shape, generator=generator).to(model.device)
    opacities = model.opacities[:, 0]
    rows = (opacities < GATED).nonzero()[:, 0]
    gate = torch.sigmoid(SHARPNESS * (FAINT - opacities[rows]))
    wander = strength * gate[:, None] * model.scales[rows].square() * noise[rows]
    axes = rotation_matrices(model.params["quaternions"][rows])[:, :, : model.scale_dims]
    model.params["means"].data[rows] += torch.einsum("nij,nj->ni", axes, wander)
