# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the rasterizer's tests; the scenes themselves are made in scenes.py."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch

from diff_surfel_rasterization import RasterSettings, Surfels, available_backends
from tests.rasterizer import cuda_host
from tests.rasterizer.scenes import make_view
from tests.rasterizer.scenes import random_surfels as make_surfels


@pytest.fixture
def random_surfels() -> Callable[..., Surfels]:
    """`random_surfels(n, seed, ...)`."""
    return make_surfels


@pytest.fixture
def view() -> RasterSettings:
    """A 24 x 18 view, turned, with an off-centre principal point."""
    return make_view()


def _backends() -> list[object]:
    """Every backend of this build; `pytest -m cuda` finds those of the GPU."""
    marks = {"cuda": [pytest.mark.cuda]}
    return [pytest.param(name, marks=marks.get(name, [])) for name in available_backends()]


@pytest.fixture(params=_backends())
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend of this build."""
    name: str = request.param
    return name


@pytest.fixture(params=[name for name in available_backends() if name != "cuda"])
def host_backend(request: pytest.FixtureRequest) -> str:
    """Every backend that takes tensors of the CPU."""
    name: str = request.param
    return name


@pytest.fixture
def backend_type(backend: str) -> tuple[torch.dtype, str, float]:
    """(dtype, device, absolute tolerance) for `backend`."""
    if backend == "reference":
        return torch.float64, "cpu", 1e-9
    return torch.float32, backend, 2e-5


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and training operations run the CUDA sources on the host shim."""
    if "cpu" not in available_backends():
        pytest.skip("the native library is not built: bash scripts/setup.sh")
    if cuda_host.compiler() is None:
        pytest.skip("no host compiler: apt install g++")
    loaded = cuda_host.load_host_operators()
    for package in ("losses", "training"):
        module = importlib.import_module(f"diff_surfel_rasterization.{package}.native")
        monkeypatch.setattr(module, "operators", lambda: loaded)
