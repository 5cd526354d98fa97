# SPDX-License-Identifier: Apache-2.0
"""The starting points of a scene: from COLMAP, from a PLY, or at random where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from arguments import ModelParams
from scene.cameras import Camera
from scene.frame import Vector
from scene.points import PointCloud, random_object_points, random_scene_points
from scene.readers.colmap import ColmapPoints
from scene.readers.posed import SceneFiles
from utils.errors import FormatError
from utils.ply import read_ply
from utils.spherical_harmonics import sh_dc_to_rgb

# A cloud of more points than this, and than a view has pixels, starts more splats than training
# would grow to by itself: worth a word.
MANY_POINTS = 200_000
# Names that programs give to the columns of red, green and blue.
_COLOR_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_SH_NAMES = ("f_dc_0", "f_dc_1", "f_dc_2")  # of splats


def initial_points(
    files: SceneFiles,
    cameras: list[Camera],
    params: ModelParams,
    seed: int,
    origin: Vector,
    notices: list[str],
) -> PointCloud:
    """The scene's points in the run's coordinates, else random ones with a notice."""
    generator = torch.Generator().manual_seed(seed)
    cloud = PointCloud.empty()
    if not params.random_init:
        cloud = _points_of(files, origin, notices)
    if len(cloud):
        return _thinned(cloud, cameras, params, generator, notices)
    count = params.random_points
    if params.random_init:
        notices.append(f"starting from {count} random points as --random_init asks")
    else:
        looked = ", ".join(path.name for path in files.point_files)
        notices.append(
            f"{params.source_path}: no sparse points (points3D.bin or .txt, {looked}), starting "
            f"from {count} random points as with --random_init; sparse points give better results"
        )
    if files.kind == "blender":
        return random_object_points(count, generator)
    return random_scene_points(cameras, count, generator)


def _points_of(files: SceneFiles, origin: Vector, notices: list[str]) -> PointCloud:
    """COLMAP's points, or those of the first PLY that holds any."""
    if files.points is not None and len(files.points):
        return from_colmap(files.points, origin)
    for path in files.point_files:
        if path.is_file():
            cloud = read_point_ply(path, origin, notices)
            if len(cloud):
                return cloud
    return PointCloud.empty()


def from_colmap(points: ColmapPoints, origin: Vector) -> PointCloud:
    """COLMAP's points as a cloud whose coordinates begin at `origin`."""
    return _cloud(points.positions, points.colors.astype(np.float32) / 255.0, origin)


def _cloud(
    positions: NDArray[np.float64], colors: NDArray[np.float32], origin: Vector
) -> PointCloud:
    local = (positions - np.array(origin)).astype(np.float32)
    return PointCloud(torch.from_numpy(local), torch.from_numpy(colors))


def read_point_ply(path: Path, origin: Vector, notices: list[str]) -> PointCloud:
    """x y z and colours of a PLY as a cloud whose coordinates begin at `origin`.

    Whole-numbered colours are 0..255, and so are fractional ones beyond 1; fractional ones within
    0..1 are taken as they are. Without colours points are grey. Raises FormatError.
    """
    columns = read_ply(path)
    if not {"x", "y", "z"} <= columns.keys():
        raise FormatError(f"{path}: a point cloud needs the columns x, y, z")
    positions = np.stack([columns[key] for key in "xyz"], axis=1).astype(np.float64)
    if not (np.abs(positions) < 1e30).all():
        raise FormatError(f"{path}: a position is not finite")
    step = float(np.spacing(np.abs(positions).max(initial=0.0).astype(np.float32)))
    if any(origin) and columns["x"].dtype.itemsize < 8 and step > 1e-3:
        notices.append(
            f"{path}: holds its large coordinates in single precision, in steps of {step:g}; "
            "written as doubles they would keep their places"
        )
    return _cloud(positions, _ply_colors(path, columns, notices), origin)


def _ply_colors(
    path: Path, columns: dict[str, np.ndarray], notices: list[str]
) -> NDArray[np.float32]:
    """Colours [N, 3] in 0..1."""
    names = next((names for names in _COLOR_NAMES if set(names) <= columns.keys()), None)
    if names is None and set(_SH_NAMES) <= columns.keys():
        shades = np.stack([columns[key] for key in _SH_NAMES], axis=1).astype(np.float32)
        return sh_dc_to_rgb(torch.from_numpy(shades)).clamp(0, 1).numpy()
    if names is None:
        notices.append(f"{path}: has no colours; its points start grey")
        return np.full((len(columns["x"]), 3), 0.5, np.float32)
    colors = np.stack([columns[key].astype(np.float32) for key in names], axis=1)
    fractional = all(columns[key].dtype.kind == "f" for key in names)
    if not fractional or colors.max(initial=0) > 1:
        colors = colors / np.float32(255.0)
    if not ((colors >= 0) & (colors <= 1)).all():
        raise FormatError(f"{path}: {', '.join(names)} must be within 0..255, or fractions of 1")
    return colors


def _thinned(
    cloud: PointCloud,
    cameras: list[Camera],
    params: ModelParams,
    generator: torch.Generator,
    notices: list[str],
) -> PointCloud:
    """At most --max_points of the points; a word about clouds that are larger than is any use."""
    most = params.max_points
    if most and len(cloud) > most:
        kept = torch.randperm(len(cloud), generator=generator)[:most].sort().values
        notices.append(f"{most} of the cloud's {len(cloud)} points are kept, as --max_points asks")
        return PointCloud(cloud.positions[kept], cloud.colors[kept])
    pixels = max(camera.width * camera.height for camera in cameras)
    if len(cloud) > max(MANY_POINTS, pixels):
        notices.append(
            f"the cloud has {len(cloud)} points and starts as many splats, for views of {pixels} "
            "pixels; --max_points N keeps fewer, which takes less time and memory"
        )
    return cloud
