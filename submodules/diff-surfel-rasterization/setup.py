# SPDX-License-Identifier: Apache-2.0
"""Builds the rasterizer: kernels without torch per instruction set and per GPU, and their bindings.

Environment: IQGS_CUDA=auto|0|1, TORCH_CUDA_ARCH_LIST, CUDA_HOME, CXX, CUDAHOSTCXX, MAX_JOBS
(default: by cores and memory, 2 GB a process). Without a C++ compiler the Python package is
installed alone and its torch reference serves. What is decided, and why, is in build_support/.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent

sys.path.insert(0, str(ROOT))  # build_support is not installed

from build_support.native import NAME, BuildNative, BuildPackage  # noqa: E402
from build_support.plan import torch_flags  # noqa: E402

sys.path.remove(str(ROOT))  # the tests load this file too, beside an installed package

__all__ = ["torch_flags"]  # the tests build against torch with the same flags


def version() -> str:
    """The package's own word, without importing it."""
    text = (ROOT / NAME / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{NAME}: __init__.py names no __version__")
    return found[1]


if __name__ == "__main__":
    setup(
        name=NAME,
        version=version(),
        description="Differentiable rasterizer of flat Gaussians with any number of channels",
        license="Apache-2.0",
        python_requires=">=3.10",
        install_requires=["torch>=2.4,<3"],
        packages=[NAME, *(f"{NAME}.{part}" for part in find_packages(str(ROOT / NAME)))],
        # Names no source: BuildNative finds them. Makes the wheel one of this platform.
        ext_modules=[Extension(f"{NAME}._native", sources=[])],
        cmdclass={"build_py": BuildPackage, "build_ext": BuildNative},
        zip_safe=False,
    )
