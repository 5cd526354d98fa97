# SPDX-License-Identifier: Apache-2.0
"""Splats as PLY columns: the dialects of 2DGS, Gaussian Grouping, OMEGAS and 3DGS viewers.

Common to all: `x y z nx ny nz f_dc_* f_rest_* opacity scale_* rot_*`, raw parameters (opacity as
logit, logarithmic scales, quaternion wxyz not normalised), `f_rest` channel-major: all red
coefficients first. 2DGS has two scales, 3DGS three. Instance attributes are `obj_dc_*`, in OMEGAS
`obj_*`; `obj_opacity` is the opacity that they are rendered with, where it is not the colour's;
`instance` holds the id of a splat's object. What a number means is decided elsewhere
(`splat_file`): here columns only get their places.
"""

from __future__ import annotations

import math
import re

import numpy as np

from scene.parameters import INSTANCE_OPACITY
from utils.errors import FormatError
from utils.ply import stacked

Arrays = dict[str, np.ndarray]

# The thickness that viewers of 3D Gaussians get for a disc; below it they show artefacts or refuse.
VIEWER_LOG_SCALE = math.log(1e-6)
LABEL_COLUMN = "instance"
OPACITY_COLUMN = "obj_opacity"  # logit: how much a splat covers where instances are rendered
CONFIDENCE_COLUMN = "instance_conf"  # float32 in 0..1: how sure the label is
_REST_COUNTS = (0, 9, 24, 45, 72)  # 3 channels times K - 1 coefficients of SH degrees 0..4
_MAX_REST = 15  # coefficients a channel of degree 3, the highest that is rendered here
_NORMALS = ("nx", "ny", "nz")  # always zero or undefined; the rotation tells
_SPLAT_COLUMNS = ("opacity", "scale_0", "rot_0")  # what a cloud of points does not have


def to_columns(
    raw: Arrays,
    viewer: bool = False,
    labels: np.ndarray | None = None,
    extra: Arrays | None = None,
) -> Arrays:
    """Name the raw parameters of N splats as PLY columns, in the order of 2DGS.

    `raw` has the keys and shapes of `GaussianModel.params`; three log scales [N, 3] are possible.
    `viewer` gives discs a `scale_2` and leaves out the attributes (other viewers stumble over
    foreign float columns); `labels` [N] add `instance`; `extra` columns [N] come last.
    """
    n = len(raw["means"])
    columns = dict(zip("xyz", raw["means"].T, strict=True))
    columns.update({name: np.zeros(n, np.float32) for name in _NORMALS})
    columns.update(_numbered("f_dc_", raw["sh_dc"][:, 0]))
    by_channel = raw["sh_rest"].transpose(0, 2, 1)
    columns.update(_numbered("f_rest_", by_channel.reshape(n, 3 * by_channel.shape[2])))
    columns["opacity"] = raw["opacity_logits"][:, 0]
    columns.update(_numbered("scale_", raw["log_scales"]))
    if viewer:
        columns.setdefault("scale_2", np.full(n, VIEWER_LOG_SCALE, np.float32))
    columns.update(_numbered("rot_", raw["quaternions"]))
    if not viewer:
        columns.update(_numbered("obj_dc_", raw["instance"]))
        if INSTANCE_OPACITY in raw:
            columns[OPACITY_COLUMN] = raw[INSTANCE_OPACITY][:, 0]
    if labels is not None:
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"expected integer labels [{n}], got {labels.dtype} {labels.shape}")
        columns[LABEL_COLUMN] = labels
    clash = sorted(columns.keys() & (extra or {}).keys())
    if clash:
        raise ValueError(f"extra columns must not be named like those of splats: {clash}")
    return columns | (extra or {})


def from_columns(columns: Arrays, path: str) -> tuple[Arrays, Arrays, int]:
    """Raw parameters, the columns that are none, and the SH degree that the file holds.

    The parameters are new float32 arrays with the keys and shapes of `GaussianModel.params`, but
    log_scales [N, 2] or [N, 3]. Values are as in the file; a double beyond float32 is infinite.
    Degree 4 is cut to degree 3. Raises FormatError for a cloud of points, missing columns, and
    counts that fit no dialect.
    """
    if {"x", "y", "z"} <= columns.keys() and not columns.keys() & set(_SPLAT_COLUMNS):
        raise FormatError(
            f"{path}: is a cloud of points and not splats (no {', '.join(_SPLAT_COLUMNS)}): to "
            "reconstruct from it put it in the place of the scene's sparse/0/points3D.ply"
        )
    attributes = _series_names(columns, "obj_dc_") or _series_names(columns, "obj_")
    rest = _series_names(columns, "f_rest_")
    if len(rest) not in _REST_COUNTS:
        raise FormatError(
            f"{path}: {len(rest)} f_rest columns fit no SH degree (expected {_REST_COUNTS})"
        )
    scales = _series_names(columns, "scale_")
    if len(scales) not in (2, 3):
        raise FormatError(
            f"{path}: expected two or three scales, scale_0, scale_1.., got {len(scales)} scales"
        )
    names = {
        "means": ["x", "y", "z"],
        "log_scales": scales,
        "quaternions": [f"rot_{i}" for i in range(4)],
        "opacity_logits": ["opacity"],
        "sh_dc": [f"f_dc_{i}" for i in range(3)],
        "sh_rest": rest,
        "instance": attributes,
    }
    if OPACITY_COLUMN in columns:
        names[INSTANCE_OPACITY] = [OPACITY_COLUMN]
    raw = {name: _stack(columns, listed, path) for name, listed in names.items()}
    n = len(raw["means"])
    if n == 0:
        raise FormatError(f"{path}: holds no splats")
    by_channel = raw["sh_rest"].reshape(n, 3, len(rest) // 3)[:, :, :_MAX_REST]
    raw["sh_rest"] = np.ascontiguousarray(by_channel.transpose(0, 2, 1))
    raw["sh_dc"] = raw["sh_dc"][:, None, :]
    known = {*_NORMALS, *(name for listed in names.values() for name in listed)}
    others = {name: column for name, column in columns.items() if name not in known}
    return raw, others, math.isqrt(len(rest) // 3 + 1) - 1


def _numbered(prefix: str, values: np.ndarray) -> Arrays:
    return {f"{prefix}{i}": values[:, i] for i in range(values.shape[1])}


def _stack(columns: Arrays, names: list[str], path: str) -> np.ndarray:
    missing = [name for name in names if name not in columns]
    if missing:
        raise FormatError(f"{path}: not a splat file, column {missing[0]!r} is missing")
    if not names:
        return np.zeros((len(next(iter(columns.values()))), 0), np.float32)
    return stacked([columns[name] for name in names])


def _series_names(columns: Arrays, prefix: str) -> list[str]:
    """prefix0, prefix1, ...: as many names as there are columns of this series."""
    pattern = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,5})")
    return [f"{prefix}{i}" for i in range(sum(1 for name in columns if pattern.fullmatch(name)))]
