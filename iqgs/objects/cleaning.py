# SPDX-License-Identifier: Apache-2.0
"""Splats judged by what views show of them: relabelled, cut at boundaries, set aside where hidden.

Notation: w_s(p) is the blending weight of splat s in pixel p (Eq. 1), m(p) the object that the mask
of the view has there. v_s(k), the sum of w_s(p) over pixels with m(p) = k, are the votes of s.
A splat whose votes disagree crosses a boundary (NG-GS finds such splats by the variance of their
masks; for votes of shares q that variance is q (1 - q)). It is cut in two, and the halves vote
again. Votes become a posterior as in B3-Seg: a uniform Beta prior, one count a pixel.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from scene.parameters import INSTANCE_OPACITY

MIXED_SHARE = 0.2  # of a splat's votes are for others than the winner: it crosses a boundary
# A hidden splat could be anybody's. Splats on surfaces show a fifth of what they would show alone
# (median of the demo's), layers of splats behind each other taking the rest.
SEEN_SHARE = 0.04
# Halves lie at +-HALF_STEP standard deviations, shortened so that both together have the variance
# of the whole: HALF_STEP^2 + HALF_LENGTH^2 = 1. Longer steps part them better, and show.
HALF_STEP = 0.5
HALF_LENGTH = math.sqrt(1 - HALF_STEP**2)


def _half_opacity() -> float:
    """The factor on the opacity of a whole that makes the sum of two halves nearest to it (least
    squares along the cut); for faint splats exact, opaque ones cover each other a little.
    """
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)
    whole = (-x.square() / 2).exp()
    halves = sum((-((x + s * HALF_STEP) / HALF_LENGTH).square() / 2).exp() for s in (-1, 1))
    assert isinstance(halves, Tensor)
    return float((whole * halves).sum() / halves.square().sum())


HALF_OPACITY = _half_opacity()


@dataclass(frozen=True, eq=False)
class Cleaning:
    """What was decided: enough to do it again."""

    cuts: tuple[Tensor, ...]  # rows [c] int64 to cut, of the splats as the cuts before left them
    labels: Tensor  # [N'] int64, of the splats after all cuts
    confidence: Tensor  # [N'] float32
    hidden: Tensor  # [N'] int64, see `LabelledSplats`


def apply_cleaning(objects: LabelledSplats, cleaning: Cleaning) -> LabelledSplats:
    """The splats after a cleaning; ValueError where it is one of other splats."""
    splats = objects.splats
    for rows in cleaning.cuts:
        if len(rows) and int(rows.max()) >= len(splats):
            raise ValueError(f"the cleaning cuts row {int(rows.max())} of {len(splats)} splats")
        splats, _ = cut_in_two(splats, rows.to(splats.device))
    if len(cleaning.labels) != len(splats):
        raise ValueError(
            f"the cleaning has labels of {len(cleaning.labels)} splats, there are {len(splats)}"
        )
    return dataclasses.replace(
        objects,
        splats=splats,
        labels=cleaning.labels,
        confidence=cleaning.confidence,
        hidden=cleaning.hidden,
    )


def with_instance_opacity(objects: LabelledSplats) -> LabelledSplats:
    """Cleaned splats for objects that are shown alone: a splat's opacity times its confidence, the
    posterior that it belongs to its object (OP2GS learns such an opacity beside the colour's).
    What reaches across a boundary becomes fainter, and with it the spikes of a cut.
    """
    values = {name: p.detach().clone() for name, p in objects.splats.params.items()}
    sure = objects.confidence.to(objects.splats.device)[:, None]
    values["opacity_logits"] = (values["opacity_logits"].sigmoid() * sure).logit(eps=1e-6)
    return dataclasses.replace(
        objects, splats=GaussianModel(values, objects.splats.active_sh_degree)
    )


def cut_in_two(splats: GaussianModel, rows: Tensor) -> tuple[GaussianModel, Tensor]:
    """Cut splats `rows` [c] across their longest axis; the others stay first, in their order.

    Returns N + c splats, and for each of them the row [N + c] that it came from.
    """
    axes, scales = splats.axes().detach()[rows], splats.scales.detach()[rows]
    length, longest = scales.max(dim=1)
    each = torch.arange(len(rows), device=rows.device)
    step = HALF_STEP * length[:, None] * axes[each, :, longest]
    half = {name: p.detach()[rows].clone() for name, p in splats.params.items()}
    half["log_scales"][each, longest] += math.log(HALF_LENGTH)
    for name in half.keys() & {"opacity_logits", INSTANCE_OPACITY}:
        half[name] = (half[name].sigmoid() * HALF_OPACITY).logit(eps=1e-6)
    kept = torch.ones(len(splats), dtype=torch.bool, device=rows.device)
    kept[rows] = False
    values = {}
    for name, parameter in splats.params.items():
        first, second = half[name], half[name]
        if name == "means":
            first, second = first + step, second - step
        values[name] = torch.cat([parameter.detach()[kept], first, second])
    source = torch.arange(len(splats), device=rows.device)
    model = GaussianModel(values, splats.active_sh_degree)
    return model, torch.cat([source[kept], rows, rows])


def mixed_splats(votes: Tensor) -> Tensor:
    """Rows [c] of the splats whose votes [N, K + 1] disagree."""
    best, total = votes.amax(dim=1), votes.sum(dim=1)
    return (best < (1 - MIXED_SHARE) * total).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class Decision:
    """What becomes of N splats, in the classes that voted; 0 stands for no object."""

    label: Tensor  # [N] int64, 0 also for hidden splats
    posterior: Tensor  # [N] float32 of the class with most votes
    hidden: Tensor  # [N] int64, the class that hides a hidden splat; 0 for others


def decide(votes: Tensor, alone: Tensor, means: Tensor) -> Decision:
    """Each splat gets the class that its votes [N, K + 1] elect, unless it is hidden in every view.

    It is where it shows too small a part of `alone` [N], the pixels that it would fill if nothing
    else were there. The few votes that it has come through what hides it; where it has none, its
    nearest neighbour (of `means` [N, 3]) that is not hidden says what that is.
    """
    best, winner = votes.max(dim=1)
    total = votes.sum(dim=1)
    seen = (total > 0) & (total >= SEEN_SHARE * alone)
    owner = winner.clone()
    silent = total == 0
    if bool(silent.any()) and bool(seen.any()):
        _, nearest = cKDTree(means[seen].numpy()).query(means[silent].numpy())
        owner[silent] = winner[seen][torch.from_numpy(nearest)]
    nothing = torch.zeros_like(winner)
    return Decision(
        label=torch.where(seen, winner, nothing),
        posterior=(best + 1) / (total + 2),
        hidden=torch.where(seen, nothing, owner),
    )


@torch.no_grad()
def pixels_alone(splats: GaussianModel, camera: Camera) -> Tensor:
    """Sum of weights [N] that each splat would have in a view if it were alone: its opacity times
    the area 2 pi sqrt(det C) of its Gaussian, C the covariance across the ray to its centre; 0
    where its centre is outside the view.

    With axes a_i and scales s_i, det C = sum over i < j of (s_i s_j v . (a_i x a_j))^2 for the
    unit ray v. An area across the ray at distance r and depth z has f_x f_y r / z^3 pixels.
    """
    means = splats.means.detach()
    pixels, depth = camera.project(means)
    size = pixels.new_tensor([camera.width, camera.height])
    inside = (depth > camera.near) & ((pixels >= 0) & (pixels < size)).all(dim=1)
    ray = means - camera.center.to(means)
    distance = ray.norm(dim=1)
    ray = ray / distance.clamp_min(torch.finfo(ray.dtype).tiny)[:, None]
    axes, scales = splats.axes(), splats.scales
    squared = torch.zeros_like(distance)
    for i in range(scales.shape[1]):
        for j in range(i):
            across = torch.linalg.cross(axes[:, :, i], axes[:, :, j], dim=1)
            squared += (scales[:, i] * scales[:, j] * (ray * across).sum(dim=1)).square()
    depth = depth.to(means).clamp_min(camera.near)
    area = 2 * math.pi * squared.sqrt() * camera.fx * camera.fy * distance / depth**3
    return torch.where(inside, splats.opacities[:, 0] * area, torch.zeros_like(area))
