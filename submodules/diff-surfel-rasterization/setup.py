# SPDX-License-Identifier: Apache-2.0
"""Builds the rasterizer: kernels without torch per instruction set and per GPU, and their bindings.

Environment: IQGS_CUDA=auto|0|1, TORCH_CUDA_ARCH_LIST, CUDA_HOME, CXX, CUDAHOSTCXX, MAX_JOBS
(default: by cores and memory, 2 GB a process), IQGS_WHEEL=1 for a wheel that is handed on. Without
a C++ compiler the Python package is installed alone and its torch reference serves. What is
decided, and why, is in build_support/.
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
from build_support.torch_outside import import_torch  # noqa: E402
from build_support.wheels import (  # noqa: E402
    leaves_this_machine,
    requirement_of,
    version_of,
    wheel_command,
)

sys.path.remove(str(ROOT))  # the tests load this file too, beside an installed package

__all__ = ["torch_flags"]  # the tests build against torch with the same flags


def version() -> str:
    """The package's own word, without importing it."""
    text = (ROOT / NAME / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{NAME}: __init__.py names no __version__")
    return found[1]


def named() -> tuple[str, str]:
    """(version, requirement of torch): one torch's where the wheel leaves this machine."""
    if not leaves_this_machine():
        return version(), "torch>=2.4,<3"
    torch = str(import_torch(NAME).__version__)
    return version_of(version(), torch), requirement_of(torch)


if __name__ == "__main__":
    own_version, torch_requirement = named()
    setup(
        name=NAME,
        version=own_version,
        description="Differentiable rasterizer of flat Gaussians with any number of channels",
        license="Apache-2.0",
        python_requires=">=3.10",
        install_requires=[torch_requirement],
        packages=[NAME, *(f"{NAME}.{part}" for part in find_packages(str(ROOT / NAME)))],
        # Names no source: BuildNative finds them. Makes the wheel one of this platform.
        ext_modules=[Extension(f"{NAME}._native", sources=[])],
        cmdclass={
            "build_py": BuildPackage,
            "build_ext": BuildNative,
            "bdist_wheel": wheel_command(),
        },
        zip_safe=False,
    )
