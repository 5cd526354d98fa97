# SPDX-License-Identifier: Apache-2.0
"""(camera, Gaussians) -> pixels: two verbs over the rasterizer, for splats of every kind.

`render` gives every image of a view; `splat` is Eq. 1 of the paper for any attribute.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diff_surfel_rasterization import (
    BlendWeights,
    QuadWeights,
    RasterOutput,
    RasterSettings,
    Splats,
    add_label_weights,
    blend_weights,
    quad_weights,
    rasterize,
)
from gaussian_renderer.output import RenderOutput
from gaussian_renderer.primitives import primitive_of
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel

SIGNALS = {"signed": "screen_grad", "absolute": "screen_grad_abs"}  # by their names here and there


def raster_settings(camera: Camera, background: Tensor, sh_degree: int = 0) -> RasterSettings:
    """The rasterizer's view of a camera. Both tensors stay on the CPU: see `RasterSettings`."""
    return RasterSettings(
        width=camera.width,
        height=camera.height,
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx,
        cy=camera.cy,
        near=camera.near,
        far=camera.far,
        background=background,
        world_to_view=camera.world_to_view.to(background.dtype),
        sh_degree=sh_degree,
    )


def render(
    camera: Camera,
    gaussians: GaussianModel,
    background: Tensor,
    *,
    with_instance: bool = True,
    depth_ratio: float | None = 0.0,
    screen_signal: str = "signed",
    backend: str = "auto",
) -> RenderOutput:
    """Render one view with everything that the splats carry.

    `background` [3] on the CPU; `depth_ratio` 0: surface normals from expected depth, 1: from
    median depth, None: no surface normals (zeros); `screen_signal`: which densification signal
    the backward pass leaves in `screen_grad.grad`, `signed` (2DGS), `absolute` (sum over
    absolute pixel terms) or `none`.
    """
    means = gaussians.means
    carried: dict[str, Any] = {}
    screen_grad = None
    if screen_signal != "none":
        screen_grad = torch.zeros_like(means, requires_grad=means.requires_grad)
        carried[SIGNALS[screen_signal]] = screen_grad
    if with_instance:
        carried["features"] = gaussians.instance
    primitive = primitive_of(gaussians)
    splats = primitive.pack_colored(gaussians, backend, **carried)
    settings = raster_settings(camera, background, gaussians.active_sh_degree)
    raw = rasterize(splats, settings, backend=backend)
    return RenderOutput(camera, raw, settings, screen_grad, depth_ratio)


def splat(
    camera: Camera,
    gaussians: GaussianModel,
    values: Tensor,
    *,
    detach_geometry: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Eq. 1: values [N, C] of the splats -> their image [C, H, W] (zero background)."""
    return _blend_values(camera, gaussians, values, detach_geometry, backend).features


def rasterize_values(
    camera: Camera, gaussians: GaussianModel, values: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Eq. 1 for values [N, C] -> (their image [C, H, W], accumulated opacity [1, H, W])."""
    raw = _blend_values(camera, gaussians, values, True, backend)
    return raw.features, raw.alpha


def _blend_values(
    camera: Camera, gaussians: GaussianModel, values: Tensor, detach_geometry: bool, backend: str
) -> RasterOutput:
    splats = primitive_of(gaussians).pack(gaussians, detach_geometry, features=values)
    background = torch.zeros(3, dtype=gaussians.means.dtype)
    return rasterize(splats, raster_settings(camera, background), backend=backend)


def view_weights(
    camera: Camera, gaussians: GaussianModel, min_weight: float = 0.0, *, backend: str = "auto"
) -> BlendWeights:
    """The blending weights w_i(x, y) of one view (no gradient); smaller ones are left out."""
    with torch.no_grad():
        splats, settings = _bare(camera, gaussians)
        return blend_weights(splats, settings, min_weight=min_weight, backend=backend)


def view_quads(
    camera: Camera, gaussians: GaussianModel, min_weight: float = 0.0, *, backend: str = "auto"
) -> QuadWeights:
    """The same in half precision, by quads of pixels: what is kept while the splats do not move."""
    with torch.no_grad():
        splats, settings = _bare(camera, gaussians)
        return quad_weights(splats, settings, min_weight=min_weight, backend=backend)


def add_view_labels(
    camera: Camera,
    gaussians: GaussianModel,
    labels: Tensor,
    sums: Tensor,
    min_weight: float = 0.0,
    *,
    backend: str = "auto",
) -> None:
    """Add the weights of one view to `sums` [N, C] int64 by label maps [L, H, W] int32 of columns.

    No table of weights is made; see `diff_surfel_rasterization.add_label_weights`.
    """
    with torch.no_grad():
        splats, settings = _bare(camera, gaussians)
        add_label_weights(splats, settings, labels, sums, min_weight, backend=backend)


def _bare(camera: Camera, gaussians: GaussianModel) -> tuple[Splats, RasterSettings]:
    """Splats without colour, and their view."""
    background = torch.zeros(3, dtype=gaussians.means.dtype)
    return primitive_of(gaussians).pack(gaussians), raster_settings(camera, background)
