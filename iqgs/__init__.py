# SPDX-License-Identifier: Apache-2.0
"""IQGS: instances of a scene of 2D Gaussian splats, decoded by queries."""

import os

# Before torch is imported: idle threads of torch's pool sleep instead of spinning, else they take
# the cores from the rasterizer's own threads (measured: half of the time of a training step).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
