# SPDX-License-Identifier: Apache-2.0
"""Which implementation serves a call: the native library when it is built, else the reference."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import reference
from .library import REBUILD, cuda_problem, require_room

BACKENDS = ("auto", "cpu", "cuda", "reference")

_log = logging.getLogger(__name__)


NOT_BUILT = f"the rasterizer is not built; build it: {REBUILD}"


@functools.cache
def _load_native() -> tuple[ModuleType | None, str]:
    """The module around the compiled library; or why it cannot be used, and what to do.

    Raises MemoryError where there is no room to load it.
    """
    require_room()
    try:
        module = importlib.import_module(f"{__package__}.native")
    except (ImportError, OSError) as error:
        return None, str(error)
    return (module, "") if module.available() else (None, NOT_BUILT)


def native_module() -> ModuleType | None:
    """The module around the compiled library, or None where it cannot be used."""
    return _load_native()[0]


@functools.cache
def _gpu_problem(module: ModuleType, device: torch.device | None) -> str | None:
    return cuda_problem(module.build_info(), device)


def backend_problem(backend: str, device: torch.device | None = None) -> str | None:
    """Why a backend cannot be used here, and what to do about it; None if it can.

    `device`: the GPU in question for "cuda", None for the current one.
    """
    if backend == "reference":
        return None
    module = native_module()
    if module is None:
        return _load_native()[1] or NOT_BUILT
    return _gpu_problem(module, device) if backend == "cuda" else None


def available_backends() -> tuple[str, ...]:
    """Backends that `rasterize` accepts here beside "auto", fastest first.

    "cuda" is among them where it is built and torch sees a GPU that it is built for.
    """
    native = [name for name in ("cuda", "cpu") if backend_problem(name) is None]
    return (*native, "reference")


@functools.cache
def _warn_slow(device_type: str, problem: str) -> None:
    _log.warning(
        "the %s rasterizer cannot be used, the slow torch reference takes over: %s",
        device_type,
        problem,
    )


def choose_backend(verb: str, requested: str, tensor: Tensor) -> str:
    """The backend that serves a call of `verb`: "cpu", "cuda" or "reference".

    "auto" follows device and type of `tensor`; native code is float32 only, so any other type
    goes to the reference.

    Raises:
        ValueError: unknown backend, or tensors that the requested backend does not take.
        RuntimeError: the requested backend cannot be used; says why and what to do.
    """
    if requested not in BACKENDS:
        choices = ", ".join(BACKENDS)
        raise ValueError(f"{verb}: backend must be one of {choices}, got {requested!r}")
    device = tensor.device.type
    if requested == "reference" or (requested == "auto" and tensor.dtype != torch.float32):
        return "reference"
    backend = device if requested == "auto" else requested
    problem = backend_problem(backend, tensor.device if device == backend == "cuda" else None)
    if backend not in BACKENDS:
        problem = problem or f"there is no native code for {backend}"
    if requested == "auto":
        if problem is None:
            return backend
        _warn_slow(device, problem)
        return "reference"
    if problem is not None:
        raise RuntimeError(f"{verb}: backend {requested!r} cannot be used: {problem}")
    if device != requested or tensor.dtype != torch.float32:
        raise ValueError(
            f"{verb}: backend {requested!r} needs float32 tensors on {requested}, "
            f"got {tensor.dtype} on {device}"
        )
    return backend


def implementation(verb: str, requested: str, tensor: Tensor) -> Callable[..., Any]:
    """The function that does `verb` ("rasterize", "blend_weights", "splat_weights", ...).

    Raises:
        ValueError, RuntimeError: as `choose_backend`.
    """
    backend = choose_backend(verb, requested, tensor)
    home = reference if backend == "reference" else native_module()
    function: Callable[..., Any] = getattr(home, f"{verb}_{backend}")
    return function
