# SPDX-License-Identifier: Apache-2.0
"""The packages that meshes need, which are an extra."""

from __future__ import annotations

import importlib

from utils.errors import UserError

PACKAGES = {"skimage": "scikit-image", "trimesh": "trimesh"}  # module -> what pip calls it


def require_mesh_packages() -> None:
    """Raise a UserError that names the packages, where one is missing."""
    for module in PACKAGES:
        try:
            importlib.import_module(module)
        except ImportError:
            names = " ".join(PACKAGES.values())
            raise UserError(f"meshes and hulls need packages: pip install {names}") from None
