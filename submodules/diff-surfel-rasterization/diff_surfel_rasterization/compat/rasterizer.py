# SPDX-License-Identifier: Apache-2.0
"""`GaussianRasterizer`: a call in the family's style, images in the order that its code unpacks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..api import rasterize
from ..backends import REBUILD
from ..checks import check_settings, check_shape
from ..reference import composite_projected
from ..reference.projection import splat_colors
from ..reference.surfels import Projected
from ..types import RasterOutput, RasterSettings, Surfels
from .extras import ARGUMENTS, accept_extras
from .features import (
    EXTRA_ATTRS,
    NOT_GIVEN,
    SEMANTICS,
    Choice,
    Features,
    Images,
    arrange,
    choose,
    detached,
    plane_distances,
)
from .inputs import OWNER, Given, Taken, take
from .settings import NEAR, GaussianRasterizationSettings, View, view_from

# What `allmap` consists of.
MAPS = ("depth", "alpha", "normal", "median_depth", "distortion")
MAP_CHANNELS = (1, 1, 3, 1, 1)


class GaussianRasterizer(nn.Module):
    """Renders 2DGS splats: `rasterizer(means3D, means2D, opacities, ...)`.

    Returned are (color, radii, allmap). The keyword of one more tensor [N, F] decides what is
    returned with its image [F, H, W], also where its value is None or of shape [0]:

    * `features`: (color, radii, allmap, features)
    * `language_feature_precomp`: (color, features, radii, allmap)
    * `extra_attrs`: (color, radii, allmap, features, pairs [K, 2] int32 of splat and pixel y W + x
      wherever a splat's weight is above 0.1)
    * `semantics`: (color, radii, allmap [7 + F + 1, H, W]); behind the seven maps lie the image of
      the tensor and that of the planes' distances <n, p> from the world's origin
    """

    def __init__(self, raster_settings: GaussianRasterizationSettings) -> None:
        super().__init__()
        self.raster_settings = raster_settings

    @torch.no_grad()
    def markVisible(self, positions: Tensor) -> Tensor:
        """Whether points [N, 3] lie beyond the near plane, [N] bool."""
        view = self.raster_settings.viewmatrix.to(positions)
        return positions @ view[:3, 2] + view[3, 2] > NEAR

    def forward(
        self,
        means3D: Tensor,
        means2D: Tensor | None,
        opacities: Tensor,
        shs: Tensor | None = None,
        colors_precomp: Tensor | None = None,
        scales: Tensor | None = None,
        rotations: Tensor | None = None,
        cov3D_precomp: Tensor | None = None,
        *,
        features: Choice = NOT_GIVEN,
        extra_attrs: Choice = NOT_GIVEN,
        semantics: Choice = NOT_GIVEN,
        language_feature_precomp: Choice = NOT_GIVEN,
        **extras: object,
    ) -> tuple[Tensor, ...]:
        """Colour [C, H, W] (C = 3 with `shs`, else that of `colors_precomp` [N, C]), radii [N]
        int32 (0 = not visible) and allmap [7, H, W]: depth sum, alpha, normal sum (3, camera
        frame), median depth, distortion.

        `means2D` is a zero tensor [N, 3]; its gradient becomes the densification signal ([N, 4]:
        the absolute one in columns 2 and 3). `cov3D_precomp` [N, 9] is the row-major transform
        from the splat's plane to pixel indices (first pixel centre at 0); normals are then
        (0, 0, -1), and the torch reference renders. Tensors of shape [0] stand for None.

        One more tensor [N, F] is rendered without background under the name that a fork gave it:
        see the class for what is returned then.

        Raises:
            ValueError: colours or shapes given twice or not at all, wrongly shaped tensors, or an
                argument of a fork that cannot be followed.
            TypeError: an unknown argument.
            RuntimeError: with `debug`, a tensor or an image is not finite.
        """
        accept_extras(OWNER, ARGUMENTS, extras)
        chosen = choose(
            {
                "features": features,
                "extra_attrs": extra_attrs,
                "semantics": semantics,
                "language_feature_precomp": language_feature_precomp,
            },
            means3D,
        )
        given = Given(
            means3D, means2D, opacities, shs, colors_precomp, scales, rotations, cov3D_precomp
        )
        if self.raster_settings.debug:
            _check_inputs(given, chosen)
        taken = take(given)
        view = view_from(self.raster_settings, taken.channels)
        images = _render(taken, chosen, view, self.raster_settings.detach_sem)
        if self.raster_settings.debug:
            _check_images(images)
        return arrange(images, chosen, taken.surfels, view.settings)


def _render(taken: Taken, chosen: Features, view: View, detach: bool) -> Images:
    """All images of a call: one pass, a second where the semantics move nothing."""
    surfels, settings = taken.surfels, view.settings
    apart = chosen.name == SEMANTICS and detach
    parts = [taken.more_colors] if apart else [taken.more_colors, chosen.values]
    if chosen.name == SEMANTICS:
        parts.append(plane_distances(surfels, settings))
    output = _rasterize(replace(surfels, features=torch.cat(parts, dim=1)), taken, settings, chosen)
    width = taken.more_colors.shape[1]
    more_colors, extra = output.features[:width], output.features[width:]
    if apart:
        again = _rasterize(detached(surfels, chosen.values), taken, settings, chosen)
        extra = torch.cat([again.features, extra])
    color = output.color[: min(taken.channels, 3)]
    if width:
        behind = view.behind.to(more_colors)[:, None, None]
        color = torch.cat([color, more_colors + (1 - output.alpha) * behind])
    allmap = torch.cat([getattr(output, name) for name in MAPS])
    return Images(color, output.radii, allmap, extra)


def _rasterize(
    surfels: Surfels, taken: Taken, settings: RasterSettings, chosen: Features
) -> RasterOutput:
    if taken.transforms is None:
        return rasterize(surfels, settings)
    if chosen.name in (EXTRA_ATTRS, SEMANTICS):
        raise ValueError(
            f"{OWNER}: {chosen.name} needs the splats themselves; give scales and rotations "
            "instead of cov3D_precomp"
        )
    return _rasterize_transforms(taken.transforms, surfels, settings)


def _rasterize_transforms(
    transforms: Tensor, surfels: Surfels, settings: RasterSettings
) -> RasterOutput:
    """Render splats given by their pixel transforms; a comparison path, hence reference only."""
    check_settings(OWNER, settings)
    count = len(surfels.means)
    check_shape(OWNER, "cov3D_precomp", transforms, (count, 9))
    view = settings.world_to_view.to(surfels.means)
    color = splat_colors(surfels, settings)
    index_rows = transforms.reshape(count, 3, 3)
    row_w = index_rows[:, 2:]
    half_pixel = torch.cat([0.5 * row_w, 0.5 * row_w, torch.zeros_like(row_w)], dim=1)
    depth = surfels.means.detach() @ view[2, :3] + view[2, 3]
    toward_camera = torch.tensor([0.0, 0.0, -1.0]).to(color)
    projected = Projected(
        transform=index_rows + half_pixel,
        normal=toward_camera.expand(count, 3),
        color=color,
        opacity=surfels.opacities[:, 0],
        alive=(depth > settings.near) & (index_rows[:, 2, 2].detach() > 0),
    )
    return composite_projected(projected, surfels, settings)


def _check_inputs(given: Given, chosen: Features) -> None:
    for name, tensor in (*vars(given).items(), (chosen.name or "features", chosen.values)):
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            raise RuntimeError(
                f"{OWNER}: {name} is not finite; look for what made it so before this call, such "
                "as a loss that divides by zero"
            )


def _check_images(images: Images) -> None:
    maps = dict(zip(MAPS, images.allmap.split(MAP_CHANNELS), strict=True))
    for name, image in {"color": images.color, **maps, "features": images.features}.items():
        if not bool(torch.isfinite(image).all()):
            raise RuntimeError(
                f"{OWNER}: {name} is not finite; look for huge values in the parameters or the "
                f"background (if there are none, rebuild with: {REBUILD})"
            )
