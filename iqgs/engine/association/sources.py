# SPDX-License-Identifier: Apache-2.0
"""What stands for the surfaces of a scene while its masks are joined: splats, or sparse points."""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gaussian_renderer import Lens, Renderer
from iqgs.association import Association, DrawnTracks, MaskView
from iqgs.association.points import ProjectedPoints, point_weights, propagate
from iqgs.engine.association.weighing import SplatChoice, drawn_view, small_camera, view_weights
from scene.dataset import Scene
from scene.gaussian_model import GaussianModel
from scene.view import View
from utils.errors import DataError
from utils.images import resize_id_map

logger = logging.getLogger(__name__)

FEWEST_POINTS = 100


class Source(Protocol):
    """N splats or points, and how a view shows them."""

    def __len__(self) -> int:
        """N."""

    def look(self, view: View, labels: NDArray[np.integer]) -> MaskView:
        """Some pixels of a view with what its label map [H, W] says there."""

    def draw(self, found: Association, view: View) -> DrawnTracks | None:
        """The view rendered in tracks, at any size; None where nothing can be rendered."""


class SplatSource:
    """Gaussians of the scene, trained by whomever."""

    def __init__(self, gaussians: GaussianModel, width: int) -> None:
        self.gaussians, self.width = gaussians, width
        self.renderer = Renderer(torch.zeros(3), "auto", 0.0)
        self.some = SplatChoice.of(len(gaussians), 0)
        self._tracks: tuple[Association, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.some)

    def _lens(self, view: View) -> Lens:
        return self.renderer.lens(small_camera(view.camera, self.width), self.gaussians)

    def _tracks_of(self, found: Association) -> NDArray[np.int64]:
        """The track of every splat."""
        if self._tracks is None or self._tracks[0] is not found:
            means = self.gaussians.means.detach().cpu().numpy()
            self._tracks = found, self.some.spread(found.splats, means)
        return self._tracks[1]

    def look(self, view: View, labels: NDArray[np.integer]) -> MaskView:
        """All pixels of the view at a smaller size."""
        lens = self._lens(view)
        small = resize_id_map(labels, lens.camera.width, lens.camera.height)
        return MaskView(view_weights(lens, self.some), small.reshape(-1))

    def draw(self, found: Association, view: View) -> DrawnTracks | None:
        """Rendered at the smaller size."""
        return drawn_view(self._lens(view), self._tracks_of(found), found.tracks.count)


class PointSource:
    """The sparse points of a scene; those of a COLMAP model know which views observed them."""

    def __init__(self, scene: Scene) -> None:
        model = scene.model
        if model is not None and model.points is not None and len(model.points):
            positions = model.points.positions - np.asarray(scene.frame.origin)
            ids = model.points.ids
            ids = np.arange(1, len(positions) + 1) if ids is None else ids
            tracks = model.tracks()
        else:
            positions, ids, tracks = scene.points.positions.double().numpy(), None, None
        if len(positions) < FEWEST_POINTS:
            raise DataError(
                f"{scene.source_path}: {len(positions)} sparse points are too few to join masks "
                "by; pass --splats, a PLY of Gaussians that train.py --no_masks or another program "
                "made"
            )
        self.positions = torch.from_numpy(np.ascontiguousarray(positions)).float()
        self.by_image: dict[int, NDArray[np.int64]] = {}
        if ids is not None and tracks is not None and len(tracks.point_ids):
            order = np.argsort(ids)
            at = np.searchsorted(ids, tracks.point_ids, sorter=order).clip(max=len(ids) - 1)
            rows = order[at]
            known = ids[rows] == tracks.point_ids
            for image in np.unique(tracks.image_ids):
                self.by_image[int(image)] = rows[known & (tracks.image_ids == image)]
        logger.info(
            "%d sparse points stand for the surfaces (%s); --splats is surer",
            len(positions),
            "with their observations" if self.by_image else "without observations",
        )

    def __len__(self) -> int:
        return len(self.positions)

    def look(self, view: View, labels: NDArray[np.integer]) -> MaskView:
        """The pixels of the points that the view observed, and of those propagated to it."""
        pixels, depth = view.camera.project(self.positions)
        observed = np.zeros(len(self), bool)
        if view.image_id is not None:
            observed[self.by_image.get(view.image_id, np.zeros(0, np.int64))] = True
        points = ProjectedPoints(
            pixels.double().numpy(),
            depth.double().numpy().reshape(-1),
            observed,
            view.camera.width,
            view.camera.height,
        )
        weights, rows = point_weights(points, propagate(points))
        return MaskView(weights, labels.reshape(-1)[rows])

    def draw(self, found: Association, view: View) -> DrawnTracks | None:
        """Points are too sparse to draw."""
        return None
