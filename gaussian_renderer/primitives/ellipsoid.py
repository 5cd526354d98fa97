# SPDX-License-Identifier: Apache-2.0
"""3D Gaussians (3DGS): ellipsoids by EWA splatting, at the depth of their centres."""

from __future__ import annotations

from diff_surfel_rasterization import Ellipsoids
from gaussian_renderer.primitives.record import Primitive

# The shortest axis of an ellipsoid is shown as its normal, but a sphere has none: the normal term
# would teach it a direction that means nothing. Distortion only asks for depths.
ELLIPSOID = Primitive("3dgs", Ellipsoids, frozenset({"distortion"}))
