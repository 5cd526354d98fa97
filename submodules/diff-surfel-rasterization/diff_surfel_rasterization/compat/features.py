# SPDX-License-Identifier: Apache-2.0
"""The one per-splat feature tensor [N, C] that forks add, under the name that each gave it, and the
tuple that its clients unpack."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..checks import check_shape
from ..reference.projection import rotation_matrices
from ..types import RasterSettings, Surfels
from ..weights import blend_weights
from .extras import is_absent
from .inputs import OWNER, as_floats

FEATURES = "features"
EXTRA_ATTRS = "extra_attrs"
SEMANTICS = "semantics"
LANGUAGE = "language_feature_precomp"
TRACED_WEIGHT = 0.1  # a pixel belongs to the splats that give it more than this


class NotGiven:
    """Stands for a keyword that was not written: None says which tuple is expected."""


NOT_GIVEN = NotGiven()
Choice = Tensor | None | NotGiven


@dataclass(frozen=True)
class Features:
    """The feature tensor of a call."""

    name: str | None  # the keyword; None: nothing beyond 2DGS
    values: Tensor  # [N, C]


@dataclass(frozen=True)
class Images:
    """What a call has rendered."""

    color: Tensor
    radii: Tensor
    allmap: Tensor
    features: Tensor


def choose(given: dict[str, Choice], means: Tensor) -> Features:
    """The feature tensor among the keywords; none of them, None and [0] are [N, 0].

    Raises:
        ValueError: two names are used, or the tensor has another shape.
    """
    written = {k: v for k, v in given.items() if not isinstance(v, NotGiven)}
    if len(written) > 1:
        raise ValueError(f"{OWNER}: {' and '.join(written)} are names for one thing; give one")
    for name, values in written.items():
        if is_absent(values):
            return Features(name, as_floats(means[:, :0], means))
        check_shape(OWNER, name, values, (len(means), "C"))
        assert values is not None
        return Features(name, as_floats(values, means))
    return Features(None, as_floats(means[:, :0], means))


def arrange(
    images: Images, features: Features, surfels: Surfels, settings: RasterSettings
) -> tuple[Tensor, ...]:
    """The tuple that clients of the keyword unpack."""
    if features.name is None:
        return images.color, images.radii, images.allmap
    if features.name == LANGUAGE:
        return images.color, images.features, images.radii, images.allmap
    if features.name == SEMANTICS:
        allmap = torch.cat([images.allmap, images.features])
        return images.color, images.radii, allmap
    if features.name == EXTRA_ATTRS:
        traced = traced_pixels(surfels, settings)
        return images.color, images.radii, images.allmap, images.features, traced
    return images.color, images.radii, images.allmap, images.features


@torch.no_grad()
def traced_pixels(surfels: Surfels, settings: RasterSettings) -> Tensor:
    """(splat, pixel y W + x) [K, 2] int32 of every weight above TRACED_WEIGHT, pixel by pixel.

    Costs about one forward pass.
    """
    bare = Surfels(
        means=surfels.means.detach(),
        scales=surfels.scales.detach(),
        rotations=surfels.rotations.detach(),
        opacities=surfels.opacities.detach(),
        colors=torch.zeros_like(surfels.means),
    )
    table = blend_weights(bare, settings, min_weight=TRACED_WEIGHT)
    pixels = torch.arange(len(table.row_start) - 1, dtype=torch.int32, device=table.splat.device)
    pixel = torch.repeat_interleave(pixels, table.row_start.diff())
    return torch.stack([table.splat, pixel], dim=1)


def plane_distances(surfels: Surfels, settings: RasterSettings) -> Tensor:
    """<n, p> [N, 1] with the normal turned to the camera: signed distance of the splat's plane from
    the origin of the world. Clients of `semantics` find its image behind them."""
    normal = rotation_matrices(surfels.rotations)[:, :, 2]
    distance = (normal * surfels.means).sum(dim=1, keepdim=True)
    view = settings.world_to_view.to(surfels.means)
    seen_from = -view[:3, :3].T @ view[:3, 3]  # centre of the camera
    facing = (normal * (seen_from - surfels.means)).sum(dim=1, keepdim=True).detach()
    return torch.where(facing < 0, -distance, distance)


def detached(surfels: Surfels, values: Tensor) -> Surfels:
    """The same splats with features whose image moves nothing else."""
    plain = {k: v.detach() for k, v in vars(surfels).items() if isinstance(v, Tensor)}
    return replace(Surfels(**plain), features=values, screen_grad=None, screen_grad_abs=None)
