# SPDX-License-Identifier: Apache-2.0
"""Which object a ray meets first, by the weights of blending."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from gaussian_renderer import MIN_WEIGHT, Renderer
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from utils.geometry import look_at

FOCAL = 800.0  # pixels: a click is as wide as one of about 800 across the view
_NEAR = 1e-3  # of a free camera, world units


def ray_camera(origin: ArrayLike, direction: ArrayLike) -> Camera:
    """A camera of one pixel that looks along a ray."""
    start, ahead = np.asarray(origin, np.float64), np.asarray(direction, np.float64)
    pose = torch.from_numpy(look_at(start, start + ahead, np.array([0.0, 0.0, 1.0])))
    return Camera(pose, FOCAL, FOCAL, 0.5, 0.5, 1, 1, "ray", uid=0, near=_NEAR)


def met_object(objects: LabelledSplats, renderer: Renderer, camera: Camera) -> int | None:
    """The object with most of the camera's one pixel, 0 for what belongs to none; None where more
    of the background is seen than of any object.
    """
    weights = renderer.lens(camera, objects.splats).weights(MIN_WEIGHT / 4)
    labels = objects.labels[weights.splat.long().cpu()]
    if not len(labels):
        return None
    shares = torch.bincount(labels, weights=weights.weight.double().cpu())
    best = int(shares.argmax())
    return best if float(shares[best]) > 1 - float(shares.sum()) else None
