# SPDX-License-Identifier: Apache-2.0
"""A tiny world for tests: balls on a floor, ray-cast through any camera, with exact ids."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from scene.readers.colmap import ColmapCamera, ColmapImage, ColmapPoints, write_colmap_model

BALLS = np.array([[-0.9, 0.3, 0.0, 0.5], [0.8, 0.35, 0.3, 0.45], [0.1, 0.4, -0.8, 0.4]])
COLORS = np.array([[200, 60, 50], [60, 170, 80], [60, 90, 210]])
SIZE = (96, 72)

Inverse = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]


def ring_poses(views: int, radius: float = 3.0) -> list[NDArray[np.float64]]:
    """World to view [4, 4] of cameras round the balls; the world's y points up."""
    poses = []
    for index in range(views):
        angle = 2 * math.pi * index / views
        eye = np.array([radius * math.cos(angle), 1.5, radius * math.sin(angle)])
        forward = np.array([0, 0.3, 0]) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 1.0, 0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = -pose[:3, :3] @ eye
        poses.append(pose)
    return poses


def cast(
    pose: NDArray[np.float64],
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
    undistort: Inverse | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photograph [H, W, 3] and ids [H, W]. `undistort`: pinhole from lens coordinates."""
    fx, fy, cx, cy = intrinsics
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    x, y = (u - cx) / fx, (v - cy) / fy
    if undistort is not None:
        x, y = undistort(x, y)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ pose[:3, :3]
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = -pose[:3, :3].T @ pose[:3, 3]
    down = np.minimum(rays[..., 1], -1e-9)
    reach = np.where(rays[..., 1] < -1e-6, -eye[1] / down, np.inf)
    spot = eye + rays * np.where(np.isfinite(reach), reach, 0)[..., None]
    on_floor = np.isfinite(reach) & (np.hypot(spot[..., 0], spot[..., 2]) < 3)
    image = np.full((*u.shape, 3), 150.0)
    image[on_floor] = (120 + 60 * np.sin(2 * spot[on_floor][:, :1]))[:, [0, 0, 0]]
    reach = np.where(on_floor, reach, np.inf)
    ids = np.zeros(u.shape, np.uint8)
    for number, (ball, color) in enumerate(zip(BALLS, COLORS, strict=True), 1):
        along = ((ball[:3] - eye) * rays).sum(-1)
        disc = along**2 - ((eye - ball[:3]) ** 2).sum() + ball[3] ** 2
        distance = np.where(disc > 0, along - np.sqrt(np.maximum(disc, 0)), np.inf)
        hit = (distance > 0) & (distance < reach)
        normal = (eye + rays * np.where(hit, distance, 0)[..., None] - ball[:3]) / ball[3]
        image[hit] = (color * (0.6 + 0.4 * normal[..., 1:2]))[hit]
        ids[hit], reach[hit] = number, distance[hit]
    return (image.clip(0, 255) + 0.5).astype(np.uint8), ids


def colmap_image(number: int, name: str, pose: NDArray[np.float64]) -> ColmapImage:
    x, y, z, w = (float(v) for v in Rotation.from_matrix(pose[:3, :3]).as_quat())
    tx, ty, tz = (float(v) for v in pose[:3, 3])
    return ColmapImage(number, name, 1, (w, x, y, z), (tx, ty, tz))


def write_balls(
    folder: Path,
    views: int = 4,
    model: str = "PINHOLE",
    params: tuple[float, ...] = (80.0, 80.0, 48.0, 36.0),
    undistort: Inverse | None = None,
    suffix: str = "png",
) -> list[NDArray[np.float64]]:
    """A whole scene in COLMAP's layout through one camera; returns the poses."""
    poses = ring_poses(views)
    camera = ColmapCamera(1, model, *SIZE, params)
    intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
    for sub_folder in ("images", "object_mask"):
        (folder / sub_folder).mkdir(parents=True, exist_ok=True)
    images = []
    for index, pose in enumerate(poses):
        photo, ids = cast(pose, intrinsics, SIZE, undistort)
        name = f"{index:03d}.{suffix}"
        Image.fromarray(photo).save(folder / "images" / name)
        Image.fromarray(ids).save(folder / "object_mask" / f"{index:03d}.png")
        images.append(colmap_image(index + 1, name, pose))
    write_colmap_model(folder / "sparse/0", [camera], images, some_points(), binary=False)
    return poses


def some_points(count: int = 60) -> ColmapPoints:
    """Points on the balls."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    which = rng.integers(0, len(BALLS), count)
    positions = BALLS[which, :3] + BALLS[which, 3:] * normals
    return ColmapPoints(positions, COLORS[which].astype(np.uint8))
