# SPDX-License-Identifier: Apache-2.0
"""The two classes that existing 2DGS code imports, on top of the functional call.

Names, argument order, matrix layout and results are those such code relies on; the code is our
own. Matrices arrive transposed (row vectors): viewmatrix = V^T, projmatrix = (P V)^T. An
off-centre principal point is honoured when P carries it: P_02 = 2 cx / W - 1 with cx in COLMAP
pixels (first pixel centre at 0.5), so a centred camera has cx = W / 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .api import rasterize
from .backends import REBUILD
from .checks import check_settings, check_shape
from .reference import composite_projected
from .reference.projection import Projected, splat_colors
from .types import RasterOutput, RasterSettings, Surfels

NEAR, FAR = 0.2, 100.0


class GaussianRasterizationSettings(NamedTuple):
    """One view in the layout of 2DGS.

    `prefiltered` is accepted and changes nothing: culling is never an error here. `debug` checks
    the images and raises RuntimeError naming the first that is not finite; it writes no dumps.
    `tanfovx`, `tanfovy` and `campos` repeat what the matrices say and are not read.
    """

    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor  # [3]
    scale_modifier: float
    viewmatrix: Tensor  # [4, 4] V^T
    projmatrix: Tensor  # [4, 4] (P V)^T
    sh_degree: int
    campos: Tensor  # [3]
    prefiltered: bool
    debug: bool


class GaussianRasterizer(nn.Module):
    """Renders 2DGS splats: `rasterizer(means3D, means2D, opacities, ...)`."""

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colour [3, H, W], radii [N] int32 (0 = not visible) and allmap [7, H, W]:
        depth sum, alpha, normal sum (3, camera frame), median depth, distortion.

        `means2D` is a zero tensor [N, 3]; its gradient becomes the densification signal.
        `cov3D_precomp` [N, 9] is the row-major transform from the splat's plane to pixel indices
        (first pixel centre at 0); normals are then (0, 0, -1), and the torch reference renders.

        Raises:
            ValueError: colours or shapes given twice or not at all, or wrongly shaped tensors.
            RuntimeError: with `debug`, an image is not finite.
        """
        if (shs is None) == (colors_precomp is None):
            raise ValueError("GaussianRasterizer: give exactly one of shs and colors_precomp")
        shape_given = scales is not None and rotations is not None
        shape_absent = scales is None and rotations is None
        if not (shape_given if cov3D_precomp is None else shape_absent):
            raise ValueError(
                "GaussianRasterizer: give either scales and rotations, or cov3D_precomp"
            )
        settings = raster_settings_from(self.raster_settings)
        count = len(means3D)
        surfels = Surfels(
            means=means3D,
            scales=means3D.new_ones(count, 2) if scales is None else scales,
            rotations=means3D.new_ones(count, 4) if rotations is None else rotations,
            opacities=opacities,
            colors=colors_precomp,
            sh=shs,
            screen_grad=means2D,
        )
        if cov3D_precomp is None:
            output = rasterize(surfels, settings)
        else:
            output = _rasterize_transforms(cov3D_precomp, surfels, settings)
        if self.raster_settings.debug:
            _check_finite(output)
        allmap = torch.cat(
            [output.depth, output.alpha, output.normal, output.median_depth, output.distortion]
        )
        return output.color, output.radii, allmap


def raster_settings_from(given: GaussianRasterizationSettings) -> RasterSettings:
    """The same view in our conventions.

    Focal lengths and principal point come from P = (P V) V^-1. Only the rotation is needed for
    the two rows that matter, which keeps large translations out of the arithmetic.
    """
    check_shape("GaussianRasterizer", "viewmatrix", given.viewmatrix, (4, 4))
    check_shape("GaussianRasterizer", "projmatrix", given.projmatrix, (4, 4))
    # From a GPU in one piece: reading it waits for all that is queued there.
    parts = [given.viewmatrix.flatten(), given.projmatrix.flatten(), given.bg.flatten()]
    numbers = torch.cat([part.detach().to(torch.float64) for part in parts]).cpu()
    view, projection = numbers[:16].reshape(4, 4).T, numbers[16:32].reshape(4, 4).T
    rows = (projection[:2, :3] @ torch.linalg.inv(view[:3, :3])).tolist()
    width, height = int(given.image_width), int(given.image_height)
    return RasterSettings(
        width=width,
        height=height,
        fx=rows[0][0] * width / 2,
        fy=rows[1][1] * height / 2,
        cx=(rows[0][2] + 1) * width / 2,
        cy=(rows[1][2] + 1) * height / 2,
        world_to_view=view.to(given.viewmatrix.dtype),
        background=numbers[32:].to(given.bg.dtype),
        scale_modifier=float(given.scale_modifier),
        sh_degree=int(given.sh_degree),
        near=NEAR,
        far=FAR,
        low_pass_depth="exact",
        low_pass_anchor="aabb",
    )


def _rasterize_transforms(
    transforms: Tensor, surfels: Surfels, settings: RasterSettings
) -> RasterOutput:
    """Render splats given by their pixel transforms; a comparison path, hence reference only."""
    check_settings("GaussianRasterizer", settings)
    count = len(surfels.means)
    check_shape("GaussianRasterizer", "cov3D_precomp", transforms, (count, 9))
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


def _check_finite(output: RasterOutput) -> None:
    for name in ("color", "alpha", "depth", "median_depth", "normal", "distortion"):
        if not bool(torch.isfinite(getattr(output, name)).all()):
            raise RuntimeError(
                f"GaussianRasterizer: {name} is not finite; look for NaN or huge values in the "
                f"parameters (if there are none, rebuild with: {REBUILD})"
            )
