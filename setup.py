# SPDX-License-Identifier: Apache-2.0
"""Installs IQGS as a library: `pip install .` after torch is there.

The ordinary way to work is from the root of this repository after `bash scripts/setup.sh`; nothing
has to be installed for that but the requirements and `submodules/diff-surfel-rasterization`.
An installed IQGS puts the fixed packages `arguments`, `scene`, `gaussian_renderer` and `utils`
beside `iqgs`. These names are common among projects of this family: install it into an environment
of its own.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGES = ["iqgs", "arguments", "scene", "gaussian_renderer", "utils"]


def requirements(name: str) -> list[str]:
    """The requirements listed in one file, without comments and without torch's pin."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    stripped = [line.split("#")[0].strip() for line in lines]
    return [line for line in stripped if line and not line.startswith("torch==")]


setup(
    name="iqgs",
    version="0.1.0",
    description="Instance Query-based Gaussian Segmentation on 2D Gaussian splats",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8")
    if (ROOT / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    author="The IQGS developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=[p for name in PACKAGES for p in (name, f"{name}.*")]),
    install_requires=["torch>=2.4,<3", *requirements("requirements.txt")],
    extras_require={
        "masks": ["segment-anything>=1.0", "torchvision"],
        "sfm": ["pycolmap>=4,<5"],
        "viewer": ["viser>=1.0"],
        "mesh": ["trimesh>=4", "scikit-image>=0.22"],
        "dev": requirements("requirements-dev.txt"),
        "bench": ["gsplat>=1.5,<2"],
    },
)
