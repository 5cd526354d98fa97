# SPDX-License-Identifier: Apache-2.0
"""Meshes of objects of the embedded room against its true surfaces: `python -m
tests.benchmarks.meshes RUN`, where RUN was trained on a room of `make_synthetic_scene.py`.

The yardstick is the same fusion of exact depth, from the same cameras in the same voxels, with the
same cleaning. True surfaces are what exact rays of these cameras meet, four a pixel, one point in a
cell of 8 mm. Points that far apart are some millimetres from each other even where the surfaces are
one, on both sides of a ratio; the last line says what things have with points 3 mm apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from arguments.meshing import MeshParams
from iqgs.engine.objects.meshing import SEEN_VOXELS, SceneMesh, grid_for, scene_mesh
from iqgs.engine.objects.opened import trained_objects
from iqgs.engine.opening import open_run
from iqgs.export.mesh.distances import SurfaceDistances, sampled, surface_distances
from iqgs.export.mesh.fusion import fuse
from iqgs.export.mesh.painting import painted
from iqgs.export.mesh.surface import extract_surface
from iqgs.export.mesh.views import DepthView
from scene.cameras import Camera
from scene.synthetic.render import Viewpoint, pixel_rays, surfaces, trace
from scene.synthetic.room import SHELL, Room, build_room
from utils.json_files import read_json

SPACING = 0.008  # metres between points of a surface, in each direction
FINE_SPACING = 0.003
FINER = 2  # rays a pixel side that find the true surfaces


def exact(room: Room, camera: Camera, finer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth [H, W], numbers [H, W] and points [H * W, 3] of what rays of a camera meet."""
    size = (camera.width * finer, camera.height * finer)
    view = Viewpoint(camera.name, camera.world_to_view.numpy(), camera.fx * finer, *size)
    rows, columns = (g.ravel() + 0.5 for g in np.mgrid[: view.height, : view.width])
    directions = pixel_rays(view, columns, rows)
    hits = trace(room, view.center[:, None], directions)
    points = view.center[:, None] + hits.distance * directions
    _, _, numbers = surfaces(room, points, hits.surface)
    depth = hits.distance * (view.world_to_view[2, :3] @ directions)
    shape = (view.height, view.width)
    return depth.reshape(shape), numbers.reshape(shape), points.T


def seen_points(room: Room, cameras: Sequence[Camera]) -> dict[int, np.ndarray]:
    """Points [N, 3] of each object that rays of the cameras meet."""
    found: dict[int, list[np.ndarray]] = {}
    for camera in cameras:
        _, numbers, points = exact(room, camera, FINER)
        for number in np.unique(numbers):
            found.setdefault(int(number), []).append(points[numbers.ravel() == number])
    return {number: np.concatenate(parts) for number, parts in sorted(found.items())}


def thinned(points: np.ndarray, spacing: float) -> np.ndarray:
    """The first point [M, 3] in each cell of this size."""
    cells = np.floor(points / spacing).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    return points[first]


def true_mesh(
    room: Room, cameras: Sequence[Camera], like: SceneMesh, params: MeshParams
) -> SceneMesh:
    """The same fusion of exact depth."""
    views = []
    for camera in cameras:
        depth, numbers, _ = exact(room, camera, 1)
        tensors = torch.from_numpy(depth).float(), torch.from_numpy(numbers).long()
        views.append(DepthView(camera, tensors[0], None, tensors[1]))
    _, farthest = grid_for(views, params)
    surface = extract_surface(fuse(views, like.grid, farthest))
    mesh = painted(surface, views, SEEN_VOXELS * like.grid.voxel)
    return SceneMesh(mesh, like.grid, like.most_pieces)


def distances(
    sides: Sequence[SceneMesh], truth: dict[int, np.ndarray], spacing: float
) -> dict[int, tuple[SurfaceDistances, ...]]:
    """Of each object, for each of the meshes."""
    rng = np.random.default_rng(0)
    found = {}
    for number, seen in truth.items():
        points = thinned(seen, spacing)
        pair = (sampled(side.of(number), spacing, rng) for side in sides)
        found[number] = tuple(surface_distances(mesh_points, points) for mesh_points in pair)
    return found


def row(name: str, ours: Sequence[SurfaceDistances], true: Sequence[SurfaceDistances]) -> str:
    """A line of the table, millimetres; means where there are several."""
    cells = []
    for kind in ("accuracy", "completeness"):
        a, b = (np.mean([getattr(d, kind) for d in side]) * 1000 for side in (ours, true))
        cells += [f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--voxel_size", type=float, default=-1.0)
    parser.add_argument("--no-stereo", action="store_true", help="depth as the splats have it")
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    about = read_json(Path(run.config.model.source_path) / "scene.json")
    room = build_room(about["seed"], about["objects"])
    cameras = run.cameras.train
    params = MeshParams(
        quiet=True, voxel_size=arguments.voxel_size, stereo="off" if arguments.no_stereo else "on"
    )
    ours = scene_mesh(trained_objects(run), cameras, run.renderer, params)
    sides = ours, true_mesh(room, cameras, ours, params)
    truth = seen_points(room, cameras)
    found = distances(sides, truth, SPACING)
    print(f"voxels of {1000 * ours.grid.voxel:.1f} mm, distances in mm\n")
    print("| object | accuracy | of true depth | ratio | completeness | of true depth | ratio |")
    print("|---|---|---|---|---|---|---|")
    for number, (mine, best) in found.items():
        print(row(room.names[number], [mine], [best]))
    of_things = {n: points for n, points in truth.items() if room.names[n] not in SHELL}
    things = [found[number] for number in of_things]
    fine = list(distances(sides, of_things, FINE_SPACING).values())
    for name, pairs in (
        ("mean", list(found.values())),
        ("without floor and walls", things),
        ("the same, points 3 mm apart", fine),
    ):
        print(row(f"**{name}**", [mine for mine, _ in pairs], [best for _, best in pairs]))


if __name__ == "__main__":
    main()
