# SPDX-License-Identifier: Apache-2.0
"""What the tests of the compatible classes share: a camera and calls in the family's style."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diff_surfel_rasterization import (
    GaussianRasterizationSettings,
    GaussianRasterizer,
    rasterize,
)
from diff_surfel_rasterization.compat import raster_settings_from
from tests.rasterizer.scenes import detached, make_view, random_surfels


@dataclass
class TrainingCamera:
    """What 2DGS code knows of a camera: transposed matrices and fields of view."""

    image_width: int
    image_height: int
    FoVx: float
    FoVy: float
    world_view_transform: Tensor
    full_proj_transform: Tensor
    camera_center: Tensor


def training_camera(
    width: int = 24, height: int = 18, dtype: torch.dtype = torch.float32
) -> TrainingCamera:
    view = make_view(width, height).world_to_view
    fov_x, fov_y = 2 * math.atan(1 / 2.2), 2 * math.atan(height / width / 2.0)
    projection = torch.zeros(4, 4, dtype=torch.float64)
    projection[0, 0], projection[1, 1] = 1 / math.tan(fov_x / 2), 1 / math.tan(fov_y / 2)
    projection[2, 2], projection[2, 3] = 100 / (100 - 0.01), -(100 * 0.01) / (100 - 0.01)
    projection[3, 2] = 1.0
    return TrainingCamera(
        width, height, fov_x, fov_y,
        view.T.to(dtype), (projection @ view).T.to(dtype), torch.linalg.inv(view)[:3, 3].to(dtype),
    )  # fmt: skip


def attributes_of(surfels, **changes) -> dict[str, Tensor | None]:
    given = {
        "shs": surfels.sh,
        "colors_precomp": surfels.colors,
        "opacities": surfels.opacities,
        "scales": surfels.scales,
        "rotations": surfels.rotations,
    }
    return {**given, **changes}


def settings_of(camera: TrainingCamera, **changes) -> GaussianRasterizationSettings:
    given = GaussianRasterizationSettings(
        camera.image_height, camera.image_width, 0.0, 0.0, torch.zeros(3), 1.0,
        camera.world_view_transform, camera.full_proj_transform, 0, camera.camera_center,
        False, False,
    )  # fmt: skip
    return given._replace(**changes)


N, WIDTH, HEIGHT = 30, 24, 18
EMPTY = torch.Tensor([])


def scene(dtype: torch.dtype = torch.float64):
    return detached(random_surfels(N, seed=81, log_scale=(-2.5, -1), channels=5), dtype)


def rasterizer(dtype: torch.dtype = torch.float64, **changes) -> GaussianRasterizer:
    return GaussianRasterizer(settings_of(training_camera(dtype=dtype), **changes))


def call(surfels, raster: GaussianRasterizer | None = None, **changes):
    raster = rasterizer(surfels.means.dtype) if raster is None else raster
    return raster(surfels.means, None, **attributes_of(surfels, **changes))


def expected_features(surfels) -> Tensor:
    camera = training_camera(dtype=surfels.means.dtype)
    return rasterize(surfels, raster_settings_from(settings_of(camera))).features
