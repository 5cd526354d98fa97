# SPDX-License-Identifier: Apache-2.0
"""What the association looks at: blending weights of some pixels of a view, beside its labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from diff_surfel_rasterization import BlendWeights, sample_quads
from gaussian_renderer import MIN_WEIGHT, Lens
from iqgs.association import MaskView
from iqgs.engine.lifting.weight_files import CachedView
from scene.cameras import Camera

MOST_PIXELS = 1 << 17  # of a view: masks are told apart by far fewer


def sampled_view(view: CachedView, n_splats: int, labels: NDArray[np.integer]) -> MaskView:
    """Some pixels of a cached view, evenly, with what its label map [H, W] says there."""
    stride = -(-view.pixel_count // MOST_PIXELS)
    if view.pixels is None:
        pixels = torch.arange(0, view.pixel_count, stride, device=view.touched.device)
    else:
        pixels = view.pixels[::stride]
    found = sample_quads(view.weights, pixels)
    splats = view.touched[found.touched].cpu().numpy()
    matrix = _matrix(found.weights, splats, n_splats)
    return MaskView(matrix, labels.reshape(-1)[pixels.cpu().numpy()])


def view_weights(lens: Lens) -> sparse.csr_matrix:
    """The blending weights [H W, N] of a whole view."""
    found = lens.weights(MIN_WEIGHT)
    return _matrix(found, None, len(lens.gaussians))


def small_camera(camera: Camera, widest: int) -> Camera:
    """The same view at a width of at most `widest` pixels."""
    scale = min(1.0, widest / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _matrix(
    weights: BlendWeights, splats: NDArray[np.integer] | None, n_splats: int
) -> sparse.csr_matrix:
    columns = weights.splat.cpu().numpy()
    columns = columns if splats is None else splats[columns]
    entries = (weights.weight.cpu().numpy(), columns, weights.row_start.cpu().numpy())
    return sparse.csr_matrix(entries, shape=(len(weights.row_start) - 1, n_splats))
