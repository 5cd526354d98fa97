# SPDX-License-Identifier: Apache-2.0
"""The kinds of splats, a record each. Another kind is another record here."""

from __future__ import annotations

from gaussian_renderer.primitives.ellipsoid import ELLIPSOID
from gaussian_renderer.primitives.record import Primitive
from gaussian_renderer.primitives.surfel import SURFEL
from scene.gaussian_model import GaussianModel

PRIMITIVES: dict[str, Primitive] = {record.name: record for record in (SURFEL, ELLIPSOID)}


def primitive_of(gaussians: GaussianModel) -> Primitive:
    """The record of these splats."""
    return PRIMITIVES[gaussians.kind]


__all__ = ["ELLIPSOID", "PRIMITIVES", "SURFEL", "Primitive", "primitive_of"]
