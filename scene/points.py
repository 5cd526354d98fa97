# SPDX-License-Identifier: Apache-2.0
"""The points that a reconstruction starts from: COLMAP's, random ones, and background seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scene.cameras import Camera
from scene.view import View
from utils.ply import write_ply

# Half the side of the cube of synthetic object scenes (Gaussian Grouping's --random_init).
OBJECT_HALF_SIDE = 1.3
# Random points of a scene without sparse points: a ball round the focus that reaches beyond the
# cameras, because what they see lies on both sides of their ring.
RANDOM_REACH = 1.5
# Background seeds lie this many camera radii from the focus. Measured on a hand-held orbit: seeds
# inside the ring turn into floaters, seeds from 1.3 radii outwards gain half a decibel.
SEED_NEAREST, SEED_FARTHEST = 1.3, 6.0
# Surroundings count as empty when this share of the open border cells sees no point out there.
EMPTY_SHARE = 0.5
# A grid of cells over each image, for asking where the point cloud leaves holes.
_GRID_COLUMNS, _GRID_ROWS = 16, 12


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Positions with colours."""

    positions: Tensor  # [N, 3] float32, in the run's coordinates
    colors: Tensor  # [N, 3] float32, 0..1

    def __len__(self) -> int:
        return self.positions.shape[0]

    @classmethod
    def empty(cls) -> PointCloud:
        """A cloud of no points."""
        return cls(torch.zeros(0, 3), torch.zeros(0, 3))

    def joined(self, other: PointCloud) -> PointCloud:
        """These points followed by the other ones."""
        return PointCloud(
            torch.cat([self.positions, other.positions]), torch.cat([self.colors, other.colors])
        )

    def save(self, path: Path) -> None:
        """Write the columns x y z nx ny nz (normals zero) red green blue as a PLY."""
        zeros = np.zeros(len(self), np.float32)
        columns = dict(zip("xyz", self.positions.numpy().T, strict=True))
        columns.update(nx=zeros, ny=zeros, nz=zeros)
        rgb = (self.colors.clamp(0, 1) * 255.0 + 0.5).to(torch.uint8).numpy().T
        columns.update(zip(("red", "green", "blue"), rgb, strict=True))
        write_ply(path, columns)


def random_object_points(count: int, generator: torch.Generator) -> PointCloud:
    """Points of random colour in the cube [-1.3, 1.3]^3 of synthetic object scenes."""
    positions = (torch.rand(count, 3, generator=generator) * 2 - 1) * OBJECT_HALF_SIDE
    return PointCloud(positions, torch.rand(count, 3, generator=generator))


def random_scene_points(
    cameras: Sequence[Camera], count: int, generator: torch.Generator
) -> PointCloud:
    """Points of random colour within 1.5 camera radii of the point that the cameras look at."""
    focus, radius = camera_ring(cameras)
    direction = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    direction /= direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
    # The cube root spreads them evenly over the volume.
    distance = torch.rand(count, 1, generator=generator, dtype=torch.float64) ** (1 / 3)
    positions = focus + direction * distance * (RANDOM_REACH * radius)
    return PointCloud(positions.float(), torch.rand(count, 3, generator=generator))


def camera_ring(cameras: Sequence[Camera]) -> tuple[Tensor, float]:
    """Focus [3] float64 and radius of the cameras.

    The focus is the point nearest to all optical axes (least squares), kept near the cameras by a
    weak pull so that parallel axes have one too; the radius is the cameras' median distance to it.
    """
    centers = torch.stack([camera.center for camera in cameras])
    axes = torch.stack([camera.forward for camera in cameras])
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    pull = 1e-3 * len(cameras) * torch.eye(3, dtype=torch.float64)
    right = (across @ centers[:, :, None]).sum(dim=0) + pull @ centers.mean(dim=0)[:, None]
    focus = torch.linalg.solve(across.sum(dim=0) + pull, right)[:, 0]
    radius = float((centers - focus).norm(dim=1).median())
    return focus, radius if radius > 1e-9 else 1.0


def open_cells(
    cameras: Sequence[Camera], positions: Tensor, ring: tuple[Tensor, float]
) -> tuple[Tensor, float]:
    """Where the views look past the point cloud, and how empty the surroundings are.

    Every image is cut into 16 x 12 cells. A cell is *open* if no point within 1.3 camera radii
    falls into it: whatever it shows may lie beyond. An open cell is a *hole* if no point beyond
    does either. The emptiness is the share of holes among the open cells of the images' borders.

    Returns the holes [views, 12, 16] bool and the share; 0 if no border cell is open.
    """
    focus, radius = ring
    far = (positions.to(torch.float64) - focus).norm(dim=1) > SEED_NEAREST * radius
    near_hits = torch.stack([_cells_hit(camera, positions[~far]) for camera in cameras])
    far_hits = torch.stack([_cells_hit(camera, positions[far]) for camera in cameras])
    holes = ~near_hits & ~far_hits
    border = torch.ones(_GRID_ROWS, _GRID_COLUMNS, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    n_open = int((~near_hits & border).sum())
    return holes, int((holes & border).sum()) / n_open if n_open else 0.0


def _cells_hit(camera: Camera, positions: Tensor) -> Tensor:
    """[12, 16] bool: cells of the image into which a point falls."""
    pixels, depth = camera.project(positions)
    columns = (pixels[:, 0] * (_GRID_COLUMNS / camera.width)).floor()
    rows = (pixels[:, 1] * (_GRID_ROWS / camera.height)).floor()
    inside = (depth > camera.near) & (columns >= 0) & (columns < _GRID_COLUMNS)
    inside &= (rows >= 0) & (rows < _GRID_ROWS)
    hit = torch.zeros(_GRID_ROWS, _GRID_COLUMNS, dtype=torch.bool)
    hit[rows[inside].long(), columns[inside].long()] = True
    return hit


def background_seeds(
    cameras: Sequence[Camera],
    points: PointCloud,
    count: int,
    generator: torch.Generator,
    views: Sequence[View] | None = None,
) -> PointCloud:
    """Up to `count` points beyond the cameras' ring, where the cloud leaves the surroundings empty.

    Each lies on the ray of a random pixel in a hole of a random view (see `open_cells`), 1.3 to 6
    camera radii from the focus, evenly in the logarithm. Its colour is the mean over the views
    that see it, grey without views. An empty cloud is returned when the surroundings are not
    empty (less than half of the open border cells are holes). Deterministic for a generator.
    """
    if count < 1 or not cameras:
        return PointCloud.empty()
    focus, radius = camera_ring(cameras)
    holes, share = open_cells(cameras, points.positions, (focus, radius))
    places = holes.nonzero()
    if share < EMPTY_SHARE or not len(places):
        return PointCloud.empty()
    chosen = places[torch.randint(len(places), (count,), generator=generator)]
    offsets = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    spread = torch.rand(count, generator=generator, dtype=torch.float64)
    reach = radius * SEED_NEAREST * (SEED_FARTHEST / SEED_NEAREST) ** spread
    positions = torch.empty(count, 3, dtype=torch.float64)
    for index in chosen[:, 0].unique().tolist():
        mine = chosen[:, 0] == index
        camera = cameras[index]
        grid = torch.tensor([camera.width / _GRID_COLUMNS, camera.height / _GRID_ROWS])
        pixels = (chosen[mine][:, [2, 1]] + offsets[mine]) * grid
        positions[mine] = _on_sphere(camera, pixels, focus, reach[mine])
    seeds = positions[torch.isfinite(positions).all(dim=1)].float()
    return PointCloud(seeds, mean_seen_color(seeds, views or ()))


def _on_sphere(camera: Camera, pixels: Tensor, focus: Tensor, reach: Tensor) -> Tensor:
    """Where rays leave the spheres of radius `reach` [P] round the focus; NaN if they do not.

    [P, 3] float64. A ray that starts outside its sphere may miss it or point away.
    """
    direction = camera.ray_directions(pixels)
    start = camera.center - focus
    along = direction @ start
    inside = along**2 - start @ start + reach**2
    distance = -along + inside.clamp_min(0).sqrt()
    missed = (inside < 0) | (distance <= camera.near)
    position = focus + start + distance[:, None] * direction
    return torch.where(missed[:, None], torch.full_like(position, torch.nan), position)


def mean_seen_color(positions: Tensor, views: Sequence[View]) -> Tensor:
    """Mean colour [N, 3] of points over the views in whose image they fall; grey where none."""
    total = torch.zeros(len(positions), 3)
    seen = torch.zeros(len(positions), 1)
    for view in views:
        camera = view.camera
        pixels, depth = camera.project(positions)
        column, row = pixels.floor().long().unbind(dim=1)
        inside = (depth > camera.near) & (column >= 0) & (column < camera.width)
        inside &= (row >= 0) & (row < camera.height)
        valid = view.valid_on(positions.device)
        if valid is not None:
            inside[inside.clone()] &= valid[row[inside], column[inside]]
        total[inside] += view.image[:, row[inside], column[inside]].T
        seen[inside] += 1
    return torch.where(seen > 0, total / seen.clamp_min(1), torch.full_like(total, 0.5))
