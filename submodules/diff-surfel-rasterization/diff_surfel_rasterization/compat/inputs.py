# SPDX-License-Identifier: Apache-2.0
"""What callers of the compatible class pass, as the functional call wants it: one type, whole
shapes, nothing twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_shape
from ..types import Surfels
from .extras import is_absent
from .settings import COLOR

OWNER = "GaussianRasterizer"
NATIVE_TYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Given:
    """The arguments of a call. Tensors of shape [0] stand for None."""

    means3D: Tensor
    means2D: Tensor | None
    opacities: Tensor
    shs: Tensor | None
    colors_precomp: Tensor | None
    scales: Tensor | None
    rotations: Tensor | None
    cov3D_precomp: Tensor | None


@dataclass(frozen=True)
class Taken:
    """The splats with their first three colour channels, and what of them goes elsewhere."""

    surfels: Surfels  # without features
    channels: int  # C of the colours
    more_colors: Tensor  # [N, max(C - 3, 0)], the other channels
    transforms: Tensor | None  # [N, 9]


def as_floats(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor in the type that is computed in: that of `like`, single precision if half."""
    return tensor.to(like.dtype if like.dtype in NATIVE_TYPES else torch.float32)


def take(given: Given) -> Taken:
    """Check what is given exactly once, and bring it into shape.

    Raises:
        ValueError: colours or shapes are given twice or not at all, or a tensor cannot be read in
            one way only.
    """
    present = {
        name: None if is_absent(value) else as_floats(value, given.means3D)
        for name, value in vars(given).items()
    }
    if (present["shs"] is None) == (present["colors_precomp"] is None):
        raise ValueError(f"{OWNER}: give exactly one of shs and colors_precomp")
    scales, rotations = present["scales"], present["rotations"]
    whole = scales is not None and rotations is not None
    nothing = scales is None and rotations is None
    transforms = present["cov3D_precomp"]
    if not (whole if transforms is None else nothing):
        raise ValueError(f"{OWNER}: give either scales and rotations, or cov3D_precomp")
    means = present["means3D"]
    means = as_floats(given.means3D, given.means3D) if means is None else means
    opacities = present["opacities"]
    opacities = as_floats(given.opacities, given.means3D) if opacities is None else opacities
    count = len(means)
    colors, more_colors = _split_colors(present["colors_precomp"], means)
    signed, absolute = _signals(present["means2D"], count)
    surfels = Surfels(
        means=means,
        scales=means.new_ones(count, 2) if scales is None else scales,
        rotations=means.new_ones(count, 4) if rotations is None else rotations,
        opacities=opacities[:, None] if opacities.dim() == 1 else opacities,
        colors=colors,
        sh=present["shs"],
        screen_grad=signed,
        screen_grad_abs=absolute,
    )
    given_colors = present["colors_precomp"]
    channels = COLOR if given_colors is None else given_colors.shape[1]
    return Taken(surfels, channels, more_colors, transforms)


def _split_colors(colors: Tensor | None, means: Tensor) -> tuple[Tensor | None, Tensor]:
    """Colours [N, C] of any width as [N, 3], filled up with zeros, and the channels beyond."""
    if colors is None:
        return None, means.new_empty(len(means), 0)
    check_shape(OWNER, "colors_precomp", colors, (len(means), "C"))
    missing = max(0, COLOR - colors.shape[1])
    return F.pad(colors[:, :COLOR], (0, missing)), colors[:, COLOR:]


def _signals(means2D: Tensor | None, count: int) -> tuple[Tensor | None, Tensor | None]:
    """The carriers of the signed and the absolute densification signal.

    [N, 3] is that of 2DGS, [N, 2] the same without the zero, [N, 4] has the absolute signal in its
    last two columns, as code that densifies by it lays it out.
    """
    if means2D is None:
        return None, None
    if means2D.dim() != 2 or len(means2D) != count or means2D.shape[1] not in (2, 3, 4):
        raise ValueError(
            f"{OWNER}: means2D must be [{count}, 2], [{count}, 3] or [{count}, 4], "
            f"got {list(means2D.shape)}"
        )
    if means2D.shape[1] == 3:
        return means2D, None
    signed = F.pad(means2D[:, :2], (0, 1))
    return signed, F.pad(means2D[:, 2:], (0, 1)) if means2D.shape[1] == 4 else None
