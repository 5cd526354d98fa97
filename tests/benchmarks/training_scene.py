# SPDX-License-Identifier: Apache-2.0
"""A scene for training steps that is made, not read: the benchmark's splats, one view, masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arguments import RunConfig
from iqgs.engine.opening import give_method
from iqgs.engine.run import Run
from iqgs.engine.run_folder import RunCameras
from iqgs.engine.settings import resolve_run
from iqgs.engine.stages.joint import JointTraining
from iqgs.engine.stages.protocol import Stage
from iqgs.engine.training import learn_instances, reconstruct
from scene.cameras import Camera
from scene.dataset import Scene
from scene.gaussian_model import GaussianModel, random_instance
from scene.masks import IdTable, InstanceMasks
from scene.points import PointCloud
from scene.view import View
from tests.benchmarks.scenes import SceneSize, make_scene, make_settings
from utils.spherical_harmonics import coefficient_count, rgb_to_sh_dc

OBJECTS = 60
# Every term and every band from the first steps on; no densification in between.
FULL_STEP: dict[str, Any] = {
    "preset": "paper",
    "sh_interval": 1,
    "normal_from_iter": 0,
    "dist_from_iter": 0,
    "lambda_dist": 100.0,
    "densify_until_iter": 0,
    "num_queries": 300,
    "pixels_per_step": 4096,
}

# Every route: how its stage is made, and the settings that differ from those.
ROUTES: dict[str, tuple[Callable[..., Stage], dict[str, Any]]] = {
    "reconstruction": (reconstruct, {}),
    "instances, 2048 pixels, 64 queries": (
        learn_instances,
        {"pixels_per_step": 2048, "attention_pixels": 2048, "num_queries": 64},
    ),
    "instances, 4096 pixels, 300 queries": (learn_instances, {}),
    "instances, every pixel, 300 queries": (learn_instances, {"pixels_per_step": 0}),
    "joint, 4096 pixels, 300 queries": (JointTraining, {}),
}


class MadeView(View):
    """A view whose pixels and masks are in memory from the start."""

    def __init__(self, camera: Camera, image: Tensor, masks: InstanceMasks) -> None:
        super().__init__(camera, Path(camera.name), Path(camera.name), None)
        self._pixels = (image * 255.0 + 0.5).to(torch.uint8)
        self._made_masks = masks

    @property
    def masks(self) -> InstanceMasks:
        return self._made_masks


def block_labels(width: int, height: int, objects: int) -> np.ndarray:
    """Ids 1..objects in a grid of blocks, int32 [H, W]."""
    columns = math.ceil(math.sqrt(objects * width / height))
    rows = math.ceil(objects / columns)
    x = np.arange(width) * columns // width
    y = np.arange(height) * rows // height
    return (1 + (y[:, None] * columns + x[None]) % objects).astype(np.int32)


def make_view(size: SceneSize) -> MadeView:
    """A smooth random picture, and masks in blocks."""
    view = make_settings(size)
    pose = view.world_to_view.double()
    camera = Camera(
        pose, view.fx, view.fy, view.cx, view.cy, view.width, view.height, "made.png", 0
    )
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(2))
    image = torch.nn.functional.interpolate(coarse, (size.height, size.width), mode="bilinear")[0]
    labels = block_labels(size.width, size.height, OBJECTS)
    return MadeView(camera, image, InstanceMasks.from_label_map(labels))


def make_gaussians(size: SceneSize, config: RunConfig) -> GaussianModel:
    """The benchmark's splats as parameters, with instance attributes."""
    surfels, generator = make_scene(size, features=0), torch.Generator().manual_seed(3)
    assert surfels.colors is not None
    count, bands = size.splats, coefficient_count(config.model.sh_degree) - 1
    segmentation = config.segmentation
    values = {
        "means": surfels.means,
        "log_scales": surfels.scales.log(),
        "quaternions": surfels.rotations,
        "opacity_logits": surfels.opacities.logit(),
        "sh_dc": rgb_to_sh_dc(surfels.colors)[:, None],
        "sh_rest": torch.zeros(count, bands, 3),
        "instance": random_instance(
            count, segmentation.instance_dim, generator, segmentation.instance_std
        ),
    }
    return GaussianModel(values)


def make_training(size: SceneSize, device: str, **settings: object) -> Run:
    """Everything that a stage of training needs, for one made view on `device`."""
    config = resolve_run(FULL_STEP, settings)
    view = make_view(size)
    scene = Scene(
        train=(view,),
        test=(),
        points=PointCloud.empty(),
        extent=1.0,
        id_table=IdTable(tuple(range(1, OBJECTS + 1))),
        source_path=Path("made"),
        kind="colmap",
        notices=(),
    )
    gaussians = make_gaussians(size, config).to(device)
    run = Run(
        config=config,
        folder=Path("made"),
        cameras=RunCameras.of_scene(scene),
        gaussians=gaussians,
        ids=scene.id_table,
        loaded_scene=scene,
    )
    give_method(run)
    return run
