# SPDX-License-Identifier: Apache-2.0
"""How large masks are in the scene, and what that means among all masks of the scene."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from gaussian_renderer import Lens, back_project
from iqgs.methods.winners import SOLID_ALPHA
from scene.masks import MaskPatches

NEVER_SEEN = 0.5  # quantile of any scale where no mask has one


def mask_scales(lens: Lens, masks: MaskPatches) -> Tensor:
    """Extent [M] of each mask in the scene's units: |2 std| of its points (SAGA, eq. 1).

    A mask's points are its pixels, without those at its border, at the rendered depth. nan: the
    splats show nothing there. Scales that the masks bring along are kept.
    """
    rendered = lens.render(with_surface=False)
    points = back_project(lens.camera, rendered.depth)
    return extents(points, rendered.alpha[0] >= SOLID_ALPHA, masks)


def extents(points: Tensor, solid: Tensor, masks: MaskPatches) -> Tensor:
    """The same for points [3, H, W], of which only the `solid` [H, W] ones count."""
    scales = masks.scale.clone()
    inside = masks.patch.clamp_min(0)
    known = (masks.patch >= 0) & solid
    for number in torch.isnan(scales).nonzero().flatten().tolist():
        mask = masks.members[inside, number] & (masks.patch >= 0)
        kept = eroded(mask) & known
        chosen = points[:, kept if bool(kept.any()) else mask & known]
        if chosen.shape[1]:
            scales[number] = (2 * chosen.std(dim=1, correction=0)).norm()
    return scales


def eroded(mask: Tensor) -> Tensor:
    """A mask [H, W] without the pixels that touch what is outside, also diagonally; the border of
    the picture is no outside."""
    outside = (~mask)[None, None].float()
    return max_pool2d(outside, 3, stride=1, padding=1)[0, 0] == 0


def quantile(scale: Tensor, ordered: Tensor) -> Tensor:
    """Share of all scales `ordered` [n] (ascending) that lie below each scale, in 0..1.

    Linear between them; below the smallest 0, above the largest 1.
    """
    count = len(ordered)
    if count < 2:
        return torch.full_like(scale, NEVER_SEEN)
    # Equal scales share the middle of their places, as scikit-learn's transformer has it.
    first = torch.searchsorted(ordered, scale.contiguous())
    after = torch.searchsorted(ordered, scale.contiguous(), right=True)
    low, high = (first - 1).clamp_min(0), first.clamp_max(count - 1)
    gap = (ordered[high] - ordered[low]).clamp_min(torch.finfo(scale.dtype).tiny)
    between = low + ((scale - ordered[low]) / gap).clamp(0, 1)
    place = torch.where(after > first, 0.5 * (first + after - 1), between)
    return (place / (count - 1)).clamp(0, 1)
