# SPDX-License-Identifier: Apache-2.0
"""One view as 2DGS code describes it, and the same view in our conventions.

Matrices arrive transposed (row vectors): viewmatrix = V^T, projmatrix = (P V)^T. An off-centre
principal point is honoured when P carries it: P_02 = 2 cx / W - 1 with cx in COLMAP pixels (first
pixel centre at 0.5), so a centred camera has cx = W / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import check_shape
from ..types import RasterSettings
from .extras import SETTINGS, accept_extras

NEAR, FAR = 0.2, 100.0
COLOR = 3  # channels of the functional call's colour


class _Fields(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor | Sequence[float]  # [C] of the colours' width, or one number
    scale_modifier: float
    viewmatrix: Tensor  # [4, 4] V^T
    projmatrix: Tensor  # [4, 4] (P V)^T
    sh_degree: int
    campos: Tensor  # [3]
    prefiltered: bool = False
    debug: bool = False
    detach_sem: bool = False


class GaussianRasterizationSettings(_Fields):
    """One view in the layout of 2DGS.

    `prefiltered` is accepted and changes nothing: culling is never an error here. `debug` checks
    tensors and images and raises RuntimeError naming the first that is not finite; it writes no
    dumps. `tanfovx`, `tanfovy` and `campos` repeat what the matrices say and are not read.
    `detach_sem`: the image of `semantics` moves nothing but them. Settings that forks added are
    taken where they change nothing, see `extras.SETTINGS`.

    Raises:
        ValueError: a fork's setting would change the result.
        TypeError: an unknown setting, or one too few.
    """

    __slots__ = ()

    def __new__(cls, *values: Any, **named: Any) -> GaussianRasterizationSettings:
        own = {name: value for name, value in named.items() if name in cls._fields}
        extras = {name: value for name, value in named.items() if name not in cls._fields}
        accept_extras("GaussianRasterizationSettings", SETTINGS, extras)
        return super().__new__(cls, *values, **own)


@dataclass(frozen=True)
class View:
    """A view of colours of any width."""

    settings: RasterSettings
    behind: Tensor  # [C - 3] background of the channels after the third, empty if there are none


def raster_settings_from(given: GaussianRasterizationSettings) -> RasterSettings:
    """The same view in our conventions, for colours of three channels."""
    return view_from(given, COLOR).settings


def view_from(given: GaussianRasterizationSettings, channels: int) -> View:
    """The same view in our conventions.

    Focal lengths and principal point come from P = (P V) V^-1. Only the rotation is needed for
    the two rows that matter, which keeps large translations out of the arithmetic.
    """
    check_shape("GaussianRasterizer", "viewmatrix", given.viewmatrix, (4, 4))
    check_shape("GaussianRasterizer", "projmatrix", given.projmatrix, (4, 4))
    background = torch.as_tensor(given.bg, device=given.viewmatrix.device)
    # From a GPU in one piece: reading it waits for all that is queued there.
    parts = [given.viewmatrix.flatten(), given.projmatrix.flatten(), background.flatten()]
    numbers = torch.cat([part.detach().to(torch.float64) for part in parts]).cpu()
    view, projection = numbers[:16].reshape(4, 4).T, numbers[16:32].reshape(4, 4).T
    rows = (projection[:2, :3] @ torch.linalg.inv(view[:3, :3])).tolist()
    behind = _background(numbers[32:], channels).to(given.viewmatrix.dtype)
    width, height = int(given.image_width), int(given.image_height)
    settings = RasterSettings(
        width=width,
        height=height,
        fx=rows[0][0] * width / 2,
        fy=rows[1][1] * height / 2,
        cx=(rows[0][2] + 1) * width / 2,
        cy=(rows[1][2] + 1) * height / 2,
        world_to_view=view.to(given.viewmatrix.dtype),
        background=behind[:COLOR],
        scale_modifier=float(given.scale_modifier),
        sh_degree=int(given.sh_degree),
        near=NEAR,
        far=FAR,
        low_pass_depth="exact",
        low_pass_anchor="aabb",
    )
    return View(settings, behind[COLOR:])


def _background(given: Tensor, channels: int) -> Tensor:
    """One number a channel [max(C, 3)], from C of them, from one, or from three that are equal.

    Raises:
        ValueError: it is not clear which number belongs to which channel.
    """
    one = len(given) == 1 or (len(given) == COLOR and bool((given == given[0]).all()))
    if len(given) != channels:
        if not one:
            raise ValueError(
                f"GaussianRasterizer: bg has {len(given)} numbers for colours of {channels} "
                "channels; give one a channel, or a single one"
            )
        given = given[:1].expand(channels)
    return torch.nn.functional.pad(given, (0, max(0, COLOR - channels)))
