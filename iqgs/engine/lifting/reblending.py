# SPDX-License-Identifier: Apache-2.0
"""Stored blending weights under other opacities of the splats, differentiable in these.

An entry's weight is w_e = a_e T_e, where T_e = 1 - sum of the weights before it in its pixel. If
the opacity o of its splat becomes r o, then so does what it covers of the pixel:

    a'_e = min(r a_e, MOST_ALPHA)    T'_e = prod of (1 - a') before it    w'_e = a'_e T'_e

which is Eq. 1 with opacities of their own for instances. What the table left out (weights below a
grey level, splats behind an opaque one) stays left out.

P pixels, E entries, U splats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights, splat_weights
from iqgs.engine.lifting.weight_cache import SampledPixels

MOST_ALPHA = 0.99  # of a splat in a pixel, as the rasterizer has it
LEAST_LIGHT = 1e-3  # of what is left before an entry: rounded weights may leave nothing


@dataclass(frozen=True)
class Reblended:
    """Sampled pixels of a view, under other opacities."""

    weights: BlendWeights  # as they were stored
    entries: Tensor  # [E] as they are now

    @classmethod
    def of(cls, sampled: SampledPixels, before: Tensor, now: Tensor) -> Reblended:
        """Where the logits of opacities were `before` [U, 1] and are `now`, which learns."""
        if not isinstance(sampled.weights, BlendWeights):
            raise ValueError("expected pixels that are listed one by one")
        ratio = torch.sigmoid(now) / torch.sigmoid(before)
        return cls(sampled.weights, reblended(sampled.weights, ratio[:, 0]))

    def splat(self, values: Tensor) -> Tensor:
        """Eq. 1: values [U, C] -> [P, C], differentiable in them and in the opacities."""
        return blend(self.weights, self.entries, values)

    def splat_still(self, values: Tensor) -> Tensor:
        """The same, differentiable in the values alone."""
        return splat_weights(replace(self.weights, weight=self.entries.detach()), None, values)

    @property
    def alpha(self) -> Tensor:
        """Accumulated opacity [P]."""
        ones = torch.ones(self.weights.n_splats, 1, device=self.entries.device)
        return self.splat_still(ones)[:, 0]


def reblended(weights: BlendWeights, ratio: Tensor) -> Tensor:
    """The weights [E] float32 where each splat's opacity is `ratio` [U] times what it was.

    Differentiable in `ratio`. `weights` are listed front to back.
    """
    entries = weights.row_start.diff()
    first = torch.repeat_interleave(weights.row_start[:-1], entries)  # of the entry's pixel
    old = weights.weight.double()
    light = 1 - _before(old, first)
    covered = old / light.clamp_min(LEAST_LIGHT)
    alpha = (ratio.double()[weights.splat.long()] * covered).clamp_max(MOST_ALPHA)
    return (alpha * torch.exp(_before(torch.log1p(-alpha), first))).float()


def _before(values: Tensor, first: Tensor) -> Tensor:
    """Sums [E] of the values before each entry, from entry `first` [E] on."""
    until = torch.cat([values.new_zeros(1), values.cumsum(0)[:-1]])
    return until - until[first]


def blend(weights: BlendWeights, entries: Tensor, values: Tensor) -> Tensor:
    """Eq. 1 with weights `entries` [E] in the places of a table: values [U, C] -> [P, C].

    Differentiable in both.
    """
    blended: Tensor = _Blend.apply(entries, values, weights)
    return blended


class _Blend(torch.autograd.Function):
    """`splat_weights`, which is differentiable in the values, with a gradient of the weights."""

    @staticmethod
    def forward(ctx: Any, entries: Tensor, values: Tensor, weights: BlendWeights) -> Tensor:
        ctx.weights = weights
        ctx.save_for_backward(entries, values)
        return splat_weights(replace(weights, weight=entries.detach()), None, values.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """dL/dw_e = <dL/dy_p, v_s> for the entry of splat s in pixel p."""
        (grad,), weights = grads, ctx.weights
        entries, values = ctx.saved_tensors
        of_entries = of_values = None
        if ctx.needs_input_grad[0]:
            pixels = torch.arange(len(grad), device=grad.device)
            pixel = torch.repeat_interleave(pixels, weights.row_start.diff())
            shown = values.index_select(0, weights.splat.long())
            of_entries = (grad.index_select(0, pixel) * shown).sum(dim=1)
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                leaf = values.detach().requires_grad_()
                blended = splat_weights(replace(weights, weight=entries), None, leaf)
            (of_values,) = torch.autograd.grad(blended, leaf, grad)
        return of_entries, of_values, None
