# SPDX-License-Identifier: Apache-2.0
"""The raw parameters of splats: names, shapes, and what kind of splat they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from utils.spherical_harmonics import coefficient_count

# 2dgs: flat discs, two scales and a normal. 3dgs: ellipsoids, three scales.
Kind = Literal["2dgs", "3dgs"]
SCALE_COUNTS: dict[int, Kind] = {2: "2dgs", 3: "3dgs"}  # the number of scales tells the kind

# Of no splats; N comes first, and the ends of `FREE` may have any size.
EMPTY_SHAPES = {
    "means": (0, 3),
    "log_scales": (0, 2),
    "quaternions": (0, 4),
    "opacity_logits": (0, 1),
    "sh_dc": (0, 1, 3),
    "sh_rest": (0, 0, 3),
    "instance": (0, 0),
}
FREE = {"sh_rest": 1, "instance": 1, "log_scales": 1}  # which axis has a size of its own
PARAMETER_NAMES = tuple(EMPTY_SHAPES)
# What a model may have beside: opacities that its instances are rendered with.
INSTANCE_OPACITY = "instance_opacity_logits"
OPTIONAL_SHAPES = {INSTANCE_OPACITY: (0, 1)}
OF_INSTANCES = ("instance", INSTANCE_OPACITY)  # what is learned from masks


def names_in(values: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of raw parameters in their order, with those that only some models have."""
    return (*PARAMETER_NAMES, *(name for name in OPTIONAL_SHAPES if name in values))


def check_parameters(values: dict[str, Tensor]) -> int:
    """Check names and shapes of raw parameters; returns the SH degree they hold.

    Raises ValueError.
    """
    if set(values) != set(names_in(values)):
        raise ValueError(f"expected parameters {PARAMETER_NAMES}, got {tuple(values)}")
    n = len(values["means"])
    for name in names_in(values):
        shape = {**EMPTY_SHAPES, **OPTIONAL_SHAPES}[name]
        got = tuple(values[name].shape)
        fits = len(got) == len(shape) and got[0] == n
        if not fits or any(got[i] != shape[i] for i in range(1, len(shape)) if i != FREE.get(name)):
            raise ValueError(f"{name}: expected shape like {('N', *shape[1:])}, got {got}")
    scales = values["log_scales"].shape[1]
    if scales not in SCALE_COUNTS:
        raise ValueError(f"log_scales: expected two scales or three, got {scales}")
    degree = math.isqrt(values["sh_rest"].shape[1] + 1) - 1
    if coefficient_count(degree) != values["sh_rest"].shape[1] + 1:
        raise ValueError(f"sh_rest: {values['sh_rest'].shape[1]} coefficients fit no SH degree")
    return degree
