# SPDX-License-Identifier: Apache-2.0
"""Splats as PLY columns: the dialects of 2DGS, Gaussian Grouping, OMEGAS and 3DGS viewers.

Common to all: `x y z nx ny nz f_dc_* f_rest_* opacity scale_* rot_*`, raw parameters (opacity as
logit, logarithmic scales, quaternion wxyz not normalised), `f_rest` channel-major: all red
coefficients first. 2DGS has two scales, 3DGS three. Instance attributes are `obj_dc_*`, in OMEGAS
`obj_*`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from utils.errors import FormatError
from utils.ply import dump_ply
from utils.storage import atomic_write

# The thickness that viewers of 3D Gaussians get for a disc; below it they show artefacts or refuse.
VIEWER_LOG_SCALE = math.log(1e-6)
_REST_COUNTS = (0, 9, 24, 45)  # 3 channels times K - 1 coefficients of SH degrees 0..3

Arrays = dict[str, np.ndarray]


def to_columns(raw: Arrays, viewer: bool = False, labels: np.ndarray | None = None) -> Arrays:
    """Name the raw parameters of N splats as PLY columns, in the order of 2DGS.

    `raw` has the keys and shapes of `GaussianModel.params`. `viewer` adds `scale_2` and leaves out
    the attributes (other viewers stumble over foreign float columns); `labels` [N] add `instance`.
    """
    n = len(raw["means"])
    columns = dict(zip("xyz", raw["means"].T, strict=True))
    columns.update({name: np.zeros(n, np.float32) for name in ("nx", "ny", "nz")})
    columns.update(_numbered("f_dc_", raw["sh_dc"][:, 0]))
    by_channel = raw["sh_rest"].transpose(0, 2, 1)
    columns.update(_numbered("f_rest_", by_channel.reshape(n, 3 * by_channel.shape[2])))
    columns["opacity"] = raw["opacity_logits"][:, 0]
    columns.update(_numbered("scale_", raw["log_scales"]))
    if viewer:
        columns["scale_2"] = np.full(n, VIEWER_LOG_SCALE, np.float32)
    columns.update(_numbered("rot_", raw["quaternions"]))
    if not viewer:
        columns.update(_numbered("obj_dc_", raw["instance"]))
    if labels is not None:
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"expected integer labels [{n}], got {labels.dtype} {labels.shape}")
        columns["instance"] = labels
    return columns


def write(path: str | Path, columns: Arrays) -> None:
    """Write the columns atomically; a full disk is a RunError that says how much is missing."""
    size = sum(column.size * 4 for column in columns.values())
    atomic_write(path, lambda stream: dump_ply(stream, columns), size)


def from_columns(columns: Arrays, path: str, drop_scale_2: bool = False) -> Arrays:
    """Raw parameters (float32, shapes of `GaussianModel.params`) of the columns read from `path`.

    Raises FormatError for missing columns, counts that fit no dialect, or three real scales.
    """
    means = _stack(columns, ["x", "y", "z"], path)
    n = len(means)
    if n == 0:
        raise FormatError(f"{path}: holds no splats")
    rest = _series(columns, "f_rest_", path)
    if rest.shape[1] not in _REST_COUNTS:
        raise FormatError(
            f"{path}: {rest.shape[1]} f_rest columns fit no SH degree (expected {_REST_COUNTS})"
        )
    quaternions = _stack(columns, [f"rot_{i}" for i in range(4)], path)
    zero = np.flatnonzero(~quaternions.any(axis=1))
    if len(zero):
        raise FormatError(f"{path}: row {zero[0]} has a zero quaternion")
    raw = {
        "means": means,
        "log_scales": _two_scales(columns, path, drop_scale_2),
        "quaternions": quaternions,
        "opacity_logits": _stack(columns, ["opacity"], path),
        "sh_dc": _stack(columns, [f"f_dc_{i}" for i in range(3)], path)[:, None, :],
        "sh_rest": rest.reshape(n, 3, rest.shape[1] // 3).transpose(0, 2, 1),
        "instance": _instance(columns, path),
    }
    return {name: np.ascontiguousarray(array) for name, array in raw.items()}


def _numbered(prefix: str, values: np.ndarray) -> Arrays:
    return {f"{prefix}{i}": values[:, i] for i in range(values.shape[1])}


def _stack(columns: Arrays, names: list[str], path: str) -> np.ndarray:
    missing = [name for name in names if name not in columns]
    if missing:
        raise FormatError(f"{path}: not a splat file, column {missing[0]!r} is missing")
    with np.errstate(over="ignore"):  # a double beyond float32 is reported below
        stacked = np.stack([columns[name] for name in names], axis=1).astype(np.float32)
    if not np.isfinite(stacked).all():
        raise FormatError(f"{path}: columns {names[0]}.. exceed the range of float32")
    return stacked


def _series(columns: Arrays, prefix: str, path: str) -> np.ndarray:
    """The columns prefix0, prefix1, ... as [N, count]; they must be numbered without a gap."""
    pattern = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,5})")
    found = [match for match in map(pattern.fullmatch, columns) if match]
    names = [f"{prefix}{i}" for i in range(len(found))]
    if not names:
        return np.zeros((len(next(iter(columns.values()))), 0), np.float32)
    return _stack(columns, names, path)


def _instance(columns: Arrays, path: str) -> np.ndarray:
    attributes = _series(columns, "obj_dc_", path)
    return attributes if attributes.shape[1] else _series(columns, "obj_", path)


def _two_scales(columns: Arrays, path: str, drop_scale_2: bool) -> np.ndarray:
    scales = _series(columns, "scale_", path)
    if scales.shape[1] == 2:
        return scales
    if scales.shape[1] != 3:
        raise FormatError(f"{path}: expected scale_0 and scale_1, got {scales.shape[1]} scales")
    flat = (scales[:, 2] == np.float32(VIEWER_LOG_SCALE)).all()  # a viewer file of discs
    if not (flat or drop_scale_2):
        raise FormatError(
            f"{path}: has three scales, so it holds 3D Gaussians and not discs; "
            "--drop_scale_2 reads it without its third axis"
        )
    return scales[:, :2]
