# SPDX-License-Identifier: Apache-2.0
"""A scene of three textured spheres on disk, small enough to train in seconds.

Ray-cast here in a few lines, with no rasterizer, so that training has something true to find.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from scene.readers.colmap import ColmapCamera, ColmapImage, ColmapPoints, write_colmap_model
from utils.images import write_id_map, write_pixels

WIDTH, HEIGHT, FOCAL, RADIUS = 48, 36, 44.0, 5.0
SPHERES = ((-1.1, 0.0, 0.0, 0.8), (1.0, 0.1, 0.3, 0.7), (0.0, 0.2, -1.2, 0.6))  # x y z radius
IDS = (3, 7, 300)  # of the mask files: not contiguous, one beyond eight bits
COLORS = np.array([[250, 160, 140], [150, 240, 160], [150, 170, 250]], np.float64)


def orbit(index: int, count: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Rotation world to view, camera centre, and quaternion (w, x, y, z) on a horizontal circle."""
    angle = 2 * math.pi * index / count
    c, s = math.cos(angle), math.sin(angle)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return (
        rotation,
        -rotation.T @ np.array([0, 0, RADIUS]),
        (math.cos(angle / 2), 0.0, math.sin(angle / 2), 0.0),
    )


def cast(rotation: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture uint8 [H, W, 3] and ids [H, W] of one view."""
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL
    y = (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / FOCAL
    rays = np.stack(np.broadcast_arrays(x, y[:, None], 1.0), -1) @ rotation
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    nearest = np.full((HEIGHT, WIDTH), np.inf)
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    color = np.zeros((HEIGHT, WIDTH, 3))
    for number, (px, py, pz, radius) in enumerate(SPHERES):
        middle = np.array([px, py, pz]) - center
        along = rays @ middle
        inside = along**2 - middle @ middle + radius**2
        distance = along - np.sqrt(np.maximum(inside, 0))
        hit = (inside > 0) & (distance < nearest)
        points = rays * distance[..., None] - middle
        shade = 0.85 + 0.15 * np.sin(7 * points[..., 1:2] / radius)
        color[hit] = (COLORS[number] * shade)[hit]
        nearest[hit], ids[hit] = distance[hit], IDS[number]
    return color.astype(np.uint8), ids


def write_blobs(folder: Path, views: int = 9, points: int = 60) -> Path:
    """Write the scene in COLMAP layout, with so many points a sphere; returns its folder."""
    images = []
    for index in range(views):
        rotation, center, quaternion = orbit(index, views)
        picture, ids = cast(rotation, center)
        name = f"{index:03d}.png"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "object_mask").mkdir(parents=True, exist_ok=True)
        write_pixels(folder / "images" / name, picture)
        write_id_map(folder / "object_mask" / name, ids)
        images.append(ColmapImage(index + 1, name, 1, quaternion, (0.0, 0.0, RADIUS)))
    camera = ColmapCamera(1, "PINHOLE", WIDTH, HEIGHT, (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
    rng = np.random.default_rng(0)
    positions, colors = [], []
    for number, (px, py, pz, radius) in enumerate(SPHERES):
        directions = rng.normal(size=(points, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        positions.append(np.array([px, py, pz]) + radius * directions)
        colors.append(np.tile(COLORS[number], (points, 1)))
    cloud = ColmapPoints(np.concatenate(positions), np.concatenate(colors).astype(np.uint8))
    write_colmap_model(folder / "sparse/0", [camera], images, cloud)
    return folder
