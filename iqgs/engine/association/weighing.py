# SPDX-License-Identifier: Apache-2.0
"""What the association looks at: blending weights of some pixels of a view, beside its labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from diff_surfel_rasterization import BlendWeights, sample_quads
from gaussian_renderer import MIN_WEIGHT, Lens
from iqgs.association import DrawnTracks, MaskView, draw_tracks
from iqgs.engine.lifting.weight_files import CachedView
from scene.cameras import Camera

MOST_SPLATS = 200_000
MOST_PIXELS = 1 << 16  # of a view: masks are told apart by far fewer


@dataclass(frozen=True, eq=False)
class SplatChoice:
    """The splats that tell masks apart: all, or as many at random as memory and time allow."""

    count: int  # N, of all
    column: NDArray[np.int64] | None  # [N] number among the chosen, -1: not chosen; None: all are

    @classmethod
    def of(cls, count: int, seed: int) -> SplatChoice:
        """At most MOST_SPLATS."""
        if count <= MOST_SPLATS:
            return cls(count, None)
        chosen = np.sort(np.random.default_rng(seed).permutation(count)[:MOST_SPLATS])
        column = np.full(count, -1, np.int64)
        column[chosen] = np.arange(MOST_SPLATS)
        return cls(count, column)

    def __len__(self) -> int:
        return self.count if self.column is None else MOST_SPLATS

    def spread(self, tracks: NDArray[np.int64], means: NDArray[np.floating]) -> NDArray[np.int64]:
        """What is known of the chosen splats, for all [N]: the others are like the nearest."""
        if self.column is None:
            return tracks
        chosen = self.column >= 0
        spread = np.empty(self.count, np.int64)
        spread[chosen] = tracks
        nearest = cKDTree(means[chosen]).query(means[~chosen], workers=-1)[1]
        spread[~chosen] = tracks[nearest]
        return spread


def sampled_view(view: CachedView, choice: SplatChoice, labels: NDArray[np.integer]) -> MaskView:
    """Some pixels of a cached view, evenly, with what its label map [H, W] says there."""
    stride = -(-view.pixel_count // MOST_PIXELS)
    if view.pixels is None:
        pixels = torch.arange(0, view.pixel_count, stride, device=view.touched.device)
    else:
        pixels = view.pixels[::stride]
    found = sample_quads(view.weights, pixels)
    splats = view.touched[found.touched].cpu().numpy()
    matrix = _matrix(found.weights, splats, choice)
    return MaskView(matrix, labels.reshape(-1)[pixels.cpu().numpy()])


def view_weights(lens: Lens, choice: SplatChoice) -> sparse.csr_matrix:
    """The blending weights [H W, len(choice)] of a whole view."""
    return _matrix(lens.weights(MIN_WEIGHT), None, choice)


def drawn_view(lens: Lens, splats: NDArray[np.int64], count: int) -> DrawnTracks:
    """A whole view rendered in tracks: `splats` [N] 0..count-1 or -1."""
    weights = view_weights(lens, SplatChoice(len(lens.gaussians), None))
    flat, shape = draw_tracks(weights, splats, count), (lens.camera.height, lens.camera.width)
    return DrawnTracks(flat.track.reshape(shape), flat.share.reshape(shape))


def small_camera(camera: Camera, widest: int) -> Camera:
    """The same view at a width of at most `widest` pixels."""
    scale = min(1.0, widest / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _matrix(
    weights: BlendWeights, splats: NDArray[np.integer] | None, choice: SplatChoice
) -> sparse.csr_matrix:
    # `take`: numpy's brackets crash where no memory is left to make the int32 indices longer.
    columns = weights.splat.cpu().numpy()
    columns = columns if splats is None else splats.take(columns)
    value, start = weights.weight.cpu().numpy(), weights.row_start.cpu().numpy()
    if choice.column is not None:
        columns = choice.column.take(columns)
        kept = columns >= 0
        start = np.concatenate([[0], kept.cumsum()])[start]
        columns, value = columns[kept], value[kept]
    return sparse.csr_matrix((value, columns, start), shape=(len(start) - 1, len(choice)))
