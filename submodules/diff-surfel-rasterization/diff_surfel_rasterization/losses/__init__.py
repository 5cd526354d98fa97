# SPDX-License-Identifier: Apache-2.0
"""Losses that are too slow in plain torch, as fused kernels of both devices.

They know masks, queries and images, but no splat; they live beside the rasterizer because they
share its vectors, threads, build and choice of backend. `reference.py` and `similarity.py` hold the
same in plain torch: the judge of the kernels, and their stand-in where nothing is compiled.
"""

from __future__ import annotations

from .image import image_loss
from .mask import mask_loss
from .normal import normal_loss
from .reference import DICE_SMOOTHING
from .similarity import ssim_map

__all__ = ["DICE_SMOOTHING", "image_loss", "mask_loss", "normal_loss", "ssim_map"]
