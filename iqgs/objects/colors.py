# SPDX-License-Identifier: Apache-2.0
"""The colour of an object, and another one under the same light."""

from __future__ import annotations

import torch
from torch import Tensor

from scene.gaussian_model import GaussianModel
from utils.spherical_harmonics import DC_BASIS, sh_dc_to_rgb

LUMA = (0.2126, 0.7152, 0.0722)  # of linear RGB, ITU-R BT.709
DARKEST = 0.02  # mean luminance below which shade cannot be told from black


def mean_color(splats: GaussianModel) -> Tensor:
    """Mean RGB [3] of splats, weighted by opacity and size, without what depends on direction."""
    color = sh_dc_to_rgb(splats.params["sh_dc"].detach()[:, 0]).clamp(0, 1)
    weight = (splats.opacities * splats.scales[:, :2].prod(dim=1, keepdim=True)).detach()
    return (color * weight).sum(dim=0) / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def recolored(splats: GaussianModel, color: tuple[float, float, float]) -> GaussianModel:
    """Each splat's colour c(d) becomes color * Y(c(d)) / mean Y, for every direction d: luminance Y
    is linear in the coefficients, so that light, shade and gloss stay in their proportions.
    """
    values = {name: p.detach().clone() for name, p in splats.params.items()}
    luma = values["sh_dc"].new_tensor(LUMA)
    target = values["sh_dc"].new_tensor(color)
    base = (mean_color(splats) @ luma).clamp_min(DARKEST)
    gain = target / base  # [3]
    brightness = sh_dc_to_rgb(values["sh_dc"]) @ luma  # [N, 1]
    values["sh_dc"] = (brightness[..., None] * gain - 0.5) / DC_BASIS
    values["sh_rest"] = (values["sh_rest"] @ luma)[..., None] * gain
    return GaussianModel(values, splats.active_sh_degree)
