# SPDX-License-Identifier: Apache-2.0
"""From settings to everything that the training loop needs: device, scene, splats, method."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arguments import RunConfig
from diff_surfel_rasterization import backend_problem
from iqgs.engine.checkpoint import background_color, method_options, scene_frame, scene_of
from iqgs.methods import build_method
from iqgs.model import IQGS
from iqgs.types import MethodOptions
from scene.dataset import Scene
from scene.gaussian_model import GaussianModel
from scene.points import background_seeds
from utils.errors import UserError
from utils.reproducibility import seed_everything, set_threads

logger = logging.getLogger(__name__)

AUTOMATIC_SEEDS = 12_000  # background seeds when the point cloud leaves the surroundings empty


@dataclass
class Training:
    """What is trained: the one mutable thing of a run, with what surrounds it."""

    config: RunConfig
    scene: Scene
    gaussians: GaussianModel
    background: Tensor  # [3]
    method: IQGS | None = None
    options: MethodOptions | None = None

    @property
    def learns_instances(self) -> bool:
        """Whether the scene has masks to learn from."""
        return self.scene.id_table is not None


def choose_device(wanted: str) -> torch.device:
    """`auto` takes a GPU where torch and the rasterizer both have it.

    Raises UserError for `cuda` where that cannot be, with the reason and what to do.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    has_gpu = torch.cuda.is_available()
    problem = backend_problem("cuda") if has_gpu else "torch sees no GPU; use --device cpu"
    if problem is None:
        return torch.device("cuda")
    if wanted == "cuda":
        raise UserError(f"--device cuda cannot be used: {problem}")
    if has_gpu:
        logger.warning("a GPU is there, but the CPU is used: %s", problem)
    return torch.device("cpu")


def initial_gaussians(config: RunConfig, scene: Scene) -> GaussianModel:
    """Splats from the point cloud, with background seeds where asked or needed."""
    generator = torch.Generator().manual_seed(config.train.seed)
    points = scene.points
    wanted = config.model.background_seeds
    if wanted and scene.kind == "colmap" and not config.model.random_init:
        cameras = [view.camera for view in scene.train]
        count = AUTOMATIC_SEEDS if wanted == -1 else wanted
        seeds = background_seeds(cameras, points, count, generator, scene.train)
        if len(seeds):
            logger.info("%d background seeds beyond the cameras", len(seeds))
        points = points.joined(seeds)
    return GaussianModel.from_points(
        points,
        config.model.sh_degree,
        config.segmentation.instance_dim,
        generator,
        config.segmentation.instance_std,
    )


def prepare(config: RunConfig) -> Training:
    """Read the scene and make the first splats; says what the user should know."""
    seed_everything(config.train.seed)
    set_threads(config.train.threads)
    torch.autograd.set_detect_anomaly(config.train.detect_anomaly)
    if config.train.deterministic:  # cuBLAS reads this when a GPU is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.train.deterministic)
    device = choose_device(config.train.device)
    scene = scene_of(config)
    for notice in scene.notices:
        logger.info("%s", notice)
    if config.train.start_ply:
        generator = torch.Generator().manual_seed(config.train.seed)
        gaussians = starting_splats(config, scene, generator)
    else:
        gaussians = initial_gaussians(config, scene)
    training = Training(config, scene, gaussians.to(device), background_color(config))
    if training.learns_instances:
        make_method(training)
    elif config.train.start_ply:
        raise UserError("--start_ply learns instances, but the scene has no masks; check -o")
    return training


def starting_splats(config: RunConfig, scene: Scene, generator: torch.Generator) -> GaussianModel:
    """The geometry of --start_ply with a fresh instance attribute."""
    from scene.gaussian_model import random_instance

    gaussians = GaussianModel.load_ply(
        config.train.start_ply, flatten=config.train.flatten_ply, frame=scene_frame(scene)
    )
    gaussians.params["instance"] = torch.nn.Parameter(
        random_instance(
            len(gaussians),
            config.segmentation.instance_dim,
            generator,
            config.segmentation.instance_std,
        )
    )
    return gaussians


def make_method(training: Training) -> None:
    """Build the method that the settings name, for the ids of the scene's masks."""
    config = training.config
    training.options = method_options(
        config.segmentation, training.scene, config.model.zero_label, config.train.seed
    )
    training.method = build_method(training.options).to(training.gaussians.device)


def restore(training: Training, state: dict[str, Any]) -> None:
    """Put splats and method of a checkpoint in place of the fresh ones."""
    training.gaussians.load_state_dict(state["gaussians"])
    if training.method is not None and state.get("method") is not None:
        training.method.load_state_dict(state["method"])
