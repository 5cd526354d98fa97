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

BACKENDS = ("auto", "cpu", "cuda", "reference")
NO_CUDA = "its CUDA kernels are not written yet, so move the tensors to the CPU"
REBUILD = "bash scripts/setup.sh"

_log = logging.getLogger(__name__)


@functools.cache
def native_module() -> ModuleType | None:
    """The module around the compiled library, or None where it cannot be used."""
    try:
        module = importlib.import_module(f"{__package__}.native")
        usable = bool(module.available())
    except (ImportError, OSError) as error:
        _log.debug("native rasterizer not usable: %s", error)
        return None
    return module if usable else None


def native_function(name: str) -> Callable[..., Any] | None:
    """Function `name` of the native module, None if there is no such thing in this build."""
    module = native_module()
    if module is None:
        return None
    if name.endswith("_cuda") and not module.build_info().get("cuda", False):
        return None
    function: Callable[..., Any] | None = getattr(module, name, None)
    return function


def available_backends() -> tuple[str, ...]:
    """Backends that `rasterize` accepts here beside "auto", fastest first."""
    native = [name for name in ("cuda", "cpu") if native_function(f"rasterize_{name}") is not None]
    if not torch.cuda.is_available() and "cuda" in native:
        native.remove("cuda")
    return (*native, "reference")


@functools.cache
def _warn_slow(device_type: str) -> None:
    _log.warning(
        "the %s rasterizer is not built, using the slow torch reference (build it: %s)",
        device_type,
        REBUILD,
    )


def implementation(verb: str, requested: str, tensor: Tensor) -> Callable[..., Any]:
    """The function that does `verb` ("rasterize", "blend_weights", "splat_weights", "mask_loss").

    "auto" follows device and type of `tensor`; native code is float32 only, so any other type
    goes to the reference.

    Raises:
        ValueError: unknown backend, or tensors that the requested backend does not take.
        RuntimeError: the requested backend is not in this build; names the command that builds it.
    """
    if requested not in BACKENDS:
        choices = ", ".join(BACKENDS)
        raise ValueError(f"{verb}: backend must be one of {choices}, got {requested!r}")
    fallback: Callable[..., Any] = getattr(reference, f"{verb}_reference")
    device = tensor.device.type
    if requested == "reference" or (requested == "auto" and tensor.dtype != torch.float32):
        return fallback
    if requested == "auto":
        native = native_function(f"{verb}_{device}")
        if native is None:
            _warn_slow(device)
        return native or fallback
    native = native_function(f"{verb}_{requested}")
    if native is None:
        remedy = NO_CUDA if requested == "cuda" else f"build it with: {REBUILD}"
        raise RuntimeError(
            f"{verb}: backend {requested!r} is not in this build of diff_surfel_rasterization; "
            f"{remedy}"
        )
    if device != requested or tensor.dtype != torch.float32:
        raise ValueError(
            f"{verb}: backend {requested!r} needs float32 tensors on {requested}, "
            f"got {tensor.dtype} on {device}"
        )
    return native
