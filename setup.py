# SPDX-License-Identifier: Apache-2.0
"""Installs IQGS with its rasterizer: `pip install .` after torch is there.

The ordinary way to work is from the root of this repository after `bash scripts/setup.sh`; nothing
has to be installed for that. An installed IQGS is one package, `iqgs`, with everything below it
(scripts/install_support/ says how), and the commands of its `doors.py`. The rasterizer is
compiled as in its own folder: see submodules/diff-surfel-rasterization/setup.py for its switches.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent

sys.path.insert(0, str(ROOT / "scripts"))  # install_support is not installed

from install_support.doors import entry_points  # noqa: E402
from install_support.wheel import (  # noqa: E402
    NAME,
    TREES,
    BuildBelowHome,
    BuildNativeBelowHome,
    all_packages,
)

sys.path.remove(str(ROOT / "scripts"))


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
    packages=all_packages(),
    package_dir=TREES,
    package_data={"iqgs.viewer": ["page/*"]},
    # Names no source: the step finds them. Makes the wheel one of this platform.
    ext_modules=[Extension(f"iqgs.{NAME}._native", sources=[])],
    cmdclass={"build_py": BuildBelowHome, "build_ext": BuildNativeBelowHome},
    entry_points={"console_scripts": entry_points()},
    zip_safe=False,
    install_requires=["torch>=2.4,<3", *requirements("requirements.txt")],
    extras_require={
        # Neither asks for torchvision, which from PyPI does not work beside a CPU torch.
        "masks": ["segment-anything>=1.0,<2"],
        "sam2": ["transformers>=5,<6"],
        "text": ["transformers>=5,<6"],
        "sfm": ["pycolmap>=4,<5"],
        "clusters": ["scikit-learn>=1.3"],
        "viewer": ["viser>=1.1,<2"],
        "slurm": ["submitit>=1.5,<2"],
        "plots": ["matplotlib>=3.7"],
        "mesh": ["trimesh>=4", "scikit-image>=0.22"],
        "usd": ["usd-core>=26.3"],
        "pieces": ["coacd>=1"],
        "dev": requirements("requirements-dev.txt"),
        "bench": ["gsplat>=1.5,<2"],
    },
)
