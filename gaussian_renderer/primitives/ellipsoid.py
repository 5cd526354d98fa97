# SPDX-License-Identifier: Apache-2.0
"""3D Gaussians (3DGS): ellipsoids by EWA splatting, at the depth of their centres."""

from __future__ import annotations

from torch import Tensor

from diff_surfel_rasterization import Ellipsoids
from gaussian_renderer.primitives.record import Primitive


def box_area(scales: Tensor) -> Tensor:
    """Surface [N] of the box around ellipsoids of scales [N, 3], so that a flat one has the area
    of its disc in the same units. (Volumes would let a few large splats outweigh all surfaces.)
    """
    return (scales * scales.roll(1, dims=1)).sum(dim=1)


# The shortest axis of an ellipsoid is shown as its normal, but a sphere has none: the normal term
# would teach it a direction that means nothing. Distortion only asks for depths.
ELLIPSOID = Primitive("3dgs", Ellipsoids, frozenset({"distortion"}), box_area)
