# SPDX-License-Identifier: Apache-2.0
"""Settings and arguments that forks of the 2DGS rasterizer added. Those that ask for nothing are
taken with one warning; those that ask for what is not done here are refused by name."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


def is_absent(value: object) -> bool:
    """Whether it stands for "not given": None, or the family's empty tensor of shape [0]."""
    return value is None or (isinstance(value, Tensor) and value.shape == (0,))


def _is_zero(value: object) -> bool:
    """Whether a switch is off, or a shift or size is nothing."""
    if isinstance(value, Tensor):
        return not bool(torch.any(value != 0))
    return value is None or value == 0


def _never(value: object) -> bool:
    return False


@dataclass(frozen=True)
class Extra:
    """When a fork's setting changes nothing, and what to say where it would."""

    is_harmless: Callable[[object], bool]
    otherwise: str


SETTINGS: dict[str, Extra] = {
    "antialiasing": Extra(
        _is_zero, "opacity is not compensated for the low-pass filter; pass antialiasing=False"
    ),
    "kernel_size": Extra(
        _never, "the low-pass filter is that of 2DGS, of fixed size; leave it out"
    ),
    "record_transmittance": Extra(
        _is_zero, "ask blend_weights what each splat contributes; pass record_transmittance=False"
    ),
    "pp_shiftx": Extra(_is_zero, "put the principal point into projmatrix; pass pp_shiftx=0"),
    "pp_shifty": Extra(_is_zero, "put the principal point into projmatrix; pass pp_shifty=0"),
    "projmatrix_raw": Extra(is_absent, "there are no gradients of the pose; leave it out"),
    "error_img": Extra(is_absent, "images are not weighted; weight the loss and leave it out"),
}

_NO_POSE = "there are no gradients of the pose: move the splats instead, and leave it out"
ARGUMENTS: dict[str, Extra] = {name: Extra(is_absent, _NO_POSE) for name in ("theta", "rho")}


@functools.cache
def _warn(owner: str, name: str) -> None:
    _log.warning("%s: %s is taken and changes nothing here", owner, name)


def accept_extras(owner: str, known: Mapping[str, Extra], given: Mapping[str, object]) -> None:
    """Look through what a fork's client passes beyond 2DGS; one warning a name and process.

    Raises:
        ValueError: a known name with a value that would change the result.
        TypeError: an unknown name.
    """
    for name, value in given.items():
        if name not in known:
            raise TypeError(
                f"{owner}: unknown argument {name!r}, and what it asks for is not known here; "
                "leave it out if the result does not depend on it"
            )
        if not known[name].is_harmless(value):
            raise ValueError(f"{owner}: {name} cannot be followed: {known[name].otherwise}")
        _warn(owner, name)
