# SPDX-License-Identifier: Apache-2.0
"""Lenses that bend straight lines, and how their photographs become those of a pinhole."""

from scene.lenses.lens import Lens, Pinhole
from scene.lenses.models import LENS_MODELS, LensModel
from scene.lenses.sampling import sampled_ids, sampled_image, valid_pixels

__all__ = [
    "LENS_MODELS",
    "Lens",
    "LensModel",
    "Pinhole",
    "sampled_ids",
    "sampled_image",
    "valid_pixels",
]
