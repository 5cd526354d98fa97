# SPDX-License-Identifier: Apache-2.0
"""How the coordinates of a run relate to those of the scene's own files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scene.cameras import Camera
from utils.errors import FormatError
from utils.json_files import read_json
from utils.storage import write_text

FRAME_FILE = "frame.json"  # of a run folder

Vector = tuple[float, float, float]
FAR_OUT = 100.0  # scene sizes from zero: see `local_origin`


@dataclass(frozen=True)
class SceneFrame:
    """x_file = x_run + origin; nothing is turned or scaled."""

    origin: Vector = (0.0, 0.0, 0.0)  # in the files' units, float64
    up: Vector | None = None  # unit vector against gravity; None: unknown

    def write(self, path: Path) -> None:
        """Write as a JSON object."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> SceneFrame:
        """Read what `write` wrote; a missing file is the frame of the files themselves."""
        if not path.is_file():
            return cls()
        record = read_json(path)
        origin = _vector(record.get("origin", (0.0, 0.0, 0.0)), path, "origin")
        up = record.get("up")
        return cls(origin, None if up is None else _vector(up, path, "up"))


def local_origin(cameras: Sequence[Camera], points: NDArray[np.float64] | None) -> Vector:
    """Where a run's coordinates begin: zero, or the rounded centre of cameras that are far out.

    Splats are single precision: at the coordinates of a geo-referenced scene, millions of metres,
    they could only move in steps of half a metre. Cameras farther from zero than 100 times the
    scene's size (their own spread, or for a single one its distance to the points [N, 3]) get an
    origin of their own, rounded to the scene's order of magnitude. The nearest would be as good;
    100 leaves ordinary scenes their bits, and single precision 170 000 steps across a scene.
    """
    centers = torch.stack([camera.center for camera in cameras]).numpy()
    middle = centers.mean(axis=0)
    size = float(np.linalg.norm(centers - middle, axis=1).max())
    if size == 0 and points is not None and len(points):
        size = float(np.linalg.norm(np.median(points, axis=0) - middle))
    size = size or 1.0
    if np.abs(centers).max() <= FAR_OUT * size:
        return (0.0, 0.0, 0.0)
    step = 10.0 ** np.floor(np.log10(size))
    x, y, z = (float(value) for value in np.round(middle / step) * step)
    return (x, y, z)


def up_direction(cameras: Sequence[Camera]) -> Vector | None:
    """The mean of the cameras' own up (image's -y), [3] unit; None where they cancel out.

    People hold cameras level, whatever axes the pose solver chose.
    """
    if not cameras:
        return None
    mean = torch.stack([-camera.world_to_view[1, :3] for camera in cameras]).double().mean(dim=0)
    length = float(mean.norm())
    if length < 0.1:  # cameras that roll all round say nothing
        return None
    x, y, z = (mean / length).tolist()
    return (x, y, z)


def read_up(path: Path) -> Vector | None:
    """The unit `up` of a scene.json, as the synthetic scenes have one; None without one."""
    if not path.is_file():
        return None
    value = read_json(path).get("up")
    if not isinstance(value, list) or len(value) != 3:
        return None
    x, y, z = _vector(value, path, "up")
    length = (x * x + y * y + z * z) ** 0.5
    return (x / length, y / length, z / length) if length > 1e-9 else None


def _vector(value: object, path: Path, name: str) -> Vector:
    array = np.asarray(value, dtype=object)
    if array.shape != (3,) or not all(isinstance(v, int | float) for v in array.tolist()):
        raise FormatError(f"{path}: {name!r} must be three numbers")
    x, y, z = (float(v) for v in array.tolist())
    if not np.isfinite([x, y, z]).all():
        raise FormatError(f"{path}: {name!r} is not finite")
    return (x, y, z)
