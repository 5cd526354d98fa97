# SPDX-License-Identifier: Apache-2.0
"""The two classes that existing 2DGS code and its forks import, on top of the functional call.

Names, argument order, matrix layout and results are those such code relies on; the code is our
own. The README beside setup.py has the table of what the forks call and get.
"""

from __future__ import annotations

from .rasterizer import GaussianRasterizer
from .settings import GaussianRasterizationSettings, raster_settings_from

__all__ = ["GaussianRasterizationSettings", "GaussianRasterizer", "raster_settings_from"]
