# SPDX-License-Identifier: Apache-2.0
"""One run: its settings, splats, method and cameras, in training or opened again.

A run opens from its own folder. The scene with its photographs is read when somebody asks for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arguments import RunConfig
from diff_surfel_rasterization import backend_problem
from gaussian_renderer import Lens, Renderer
from iqgs.engine.agreement import ShownIds, shown_ids
from iqgs.engine.association.masks_folder import AssociatedMasks
from iqgs.engine.ranks import ALONE, Ranks
from iqgs.engine.run_folder import RunCameras
from iqgs.engine.settings import scene_of
from iqgs.methods.protocol import IdKind, Method, SceneFacts, SplatLabels
from scene.cameras import Camera
from scene.dataset import Scene
from scene.exposure import Exposures
from scene.frame import SceneFrame
from scene.frozen_gaussians import FrozenGaussians
from scene.gaussian_model import GaussianModel
from scene.masks import IdTable
from scene.view import View
from utils.errors import UserError
from utils.place import Place

logger = logging.getLogger(__name__)

SURE_CONFIDENCE = 0.5  # probability above which an id claims a splat rather than leaves it
MOST_VIEWS = 32  # views that stand for all: which splats are seen, and the mean of the queries


@dataclass
class Run:
    """What is trained, or was."""

    config: RunConfig
    folder: Path
    cameras: RunCameras
    gaussians: GaussianModel
    ids: IdTable | None = None  # None: no masks
    frame: SceneFrame = field(default_factory=SceneFrame)
    method: Method | None = None  # None: reconstructed only
    facts: SceneFacts | None = None  # what the method was built for
    iteration: int = 0
    saved_labels: SplatLabels | None = None  # in the numbers of the files, as they were saved
    loaded_scene: Scene | None = None
    masks_settled: bool = False  # the masks to learn from are decided: repaired, or as they are
    repaired: AssociatedMasks | None = None  # None: as they are in the scene
    ranks: Ranks = ALONE  # the processes that train it
    exposures: Exposures | None = None  # of the training views; None: not fitted
    edition: str = ""  # edited, or at a level: its pictures have folders of their own

    @property
    def scene(self) -> Scene:
        """The scene with its photographs and masks; read at the first use."""
        if self.loaded_scene is None:
            self.loaded_scene = scene_of(self.config, self.frame)
        return self.loaded_scene

    @property
    def has_scene(self) -> bool:
        """Whether the scene's folder is where the settings say."""
        return self.loaded_scene is not None or Path(self.config.model.source_path).is_dir()

    @property
    def output_name(self) -> str:
        """The folder of its pictures, in one of each split."""
        return f"ours_{self.iteration}{self.edition}"

    def views(self) -> tuple[View, ...]:
        """All views of the scene: training views, then those held out."""
        return (*self.scene.train, *self.scene.test)

    @property
    def learning_method(self) -> Method:
        """The method. ValueError where there is none."""
        if self.method is None:
            raise ValueError("this run has no method: its scene has no masks")
        return self.method

    @cached_property
    def renderer(self) -> Renderer:
        """How this run's views are rendered."""
        white = 1.0 if self.config.model.white_background else 0.0
        # On the CPU, as cameras are: the rasterizer takes both as numbers, and reading them from
        # a GPU would wait for it.
        pipeline = self.config.pipeline
        return Renderer(torch.full((3,), white), pipeline.backend, pipeline.depth_ratio)

    def lens(self, camera: Camera) -> Lens:
        """The run's splats through one camera."""
        return self.renderer.lens(camera, self.gaussians)

    def lenses(self, cameras: Sequence[Camera]) -> Iterator[Lens]:
        """The splats through each of these cameras, one after the other."""
        return (self.lens(camera) for camera in cameras)

    def masked_views(self, *, raw: bool = False) -> list[View]:
        """The training views that have masks, with those that the run learns from.

        With `raw` the masks are those of the scene even where they were repaired.
        """
        views = [view for view in self.scene.train if view.mask_path is not None]
        if raw or self.repaired is None:
            return views
        return [self.repaired.seen_by(view) for view in views]

    def file_ids(self, labels: Tensor, ids: IdKind) -> NDArray[np.int32]:
        """A method's ids in the numbers of the mask files, where they have such numbers."""
        return ids_of_files(labels.cpu().numpy().astype(np.int32), ids, self.ids)


def ids_of_files(
    labels: NDArray[np.int32], ids: IdKind, table: IdTable | None
) -> NDArray[np.int32]:
    """A method's ids by a table, where they are numbers of its table at all."""
    return labels if ids != "global" or table is None else table.to_original(labels)


def spread(items: Sequence[View], most: int) -> Sequence[View]:
    """At most `most` views, evenly spread."""
    return items[:: max(1, -(-len(items) // most))]


def spread_cameras(run: Run) -> Sequence[Camera]:
    """The training cameras that stand for all."""
    cameras = run.cameras.train
    return cameras[:: max(1, -(-len(cameras) // MOST_VIEWS))]


def shown_by(run: Run, labels: Tensor) -> ShownIds:
    """What the training views show of the splats with these labels [N], in the method's ids."""
    splats = FrozenGaussians(run.gaussians)

    def lenses() -> Iterator[Lens]:
        return (run.renderer.lens(camera, splats) for camera in spread_cameras(run))

    return shown_ids(lenses, run.learning_method, labels)


@torch.no_grad()
def splat_labels(run: Run, seen: Tensor | None = None) -> SplatLabels:
    """Instance of every splat, in the numbers of the mask files where the method has them, and how
    far the training views agree with it (`ShownIds.agreement`).

    0 where no training view shows the splat (`seen` [N] bool, where it is known already), or where
    its best id does not claim it: an attribute that no pixel ever taught is noise, and such splats
    would litter extracted objects. With `--splat_labels views` the id that the views show most.
    """
    if run.saved_labels is not None:
        return run.saved_labels
    found = run.learning_method.label_splats(run.gaussians)
    claimed = torch.where(found.confidence > SURE_CONFIDENCE, found.labels, 0)
    shown = shown_by(run, claimed)
    labels = torch.where(shown.seen if seen is None else seen, claimed, 0)
    if run.config.segmentation.splat_labels == "views":
        labels = shown.winner
    numbers = torch.from_numpy(run.file_ids(labels, found.ids))
    return SplatLabels(numbers.long(), shown.agreement(labels).cpu(), found.ids)


def own_device(device: torch.device, place: Place) -> torch.device:
    """The GPU of one of several processes of a machine. UserError where there are not enough."""
    if device.type != "cuda" or place.world == 1:
        return device
    count = torch.cuda.device_count()
    if place.local_world > count:
        raise UserError(
            f"torchrun starts {place.local_world} processes on a machine with {count} GPU; pass "
            f"--nproc_per_node={count} to it, or --device cpu to train.py"
        )
    torch.cuda.set_device(place.local_rank)
    return torch.device("cuda", place.local_rank)


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
