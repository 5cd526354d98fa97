# SPDX-License-Identifier: Apache-2.0
"""Cameras, views, masks, splats, and the readers that make them."""

from __future__ import annotations

import importlib
from typing import Any

# Loaded on first use, so that ray-casting the synthetic scene does not wait for torch.
_HOMES = {
    "Camera": "cameras",
    "GaussianModel": "gaussian_model",
    "InstanceMasks": "masks",
    "Scene": "dataset",
    "View": "view",
    "load_scene": "dataset",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scene' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
