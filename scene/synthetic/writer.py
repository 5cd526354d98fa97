# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: a furnished room, ray-cast into the ordinary scene layout.

    images/ object_mask/ sparse/0/ split.json labels.json scene.json points3d_labels.npz
    [object_mask_degraded/ object_mask_shuffled/ depth/ normal/]

No rasterizer is used, so the scene is also an independent oracle.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from arguments.synthetic import SHUFFLED, MaskFaults, SyntheticParams
from scene.masks.degradation import degrade_folder
from scene.readers.colmap import write_colmap_model
from scene.readers.colmap.model import ColmapCamera, ColmapImage, ColmapPoints
from scene.synthetic.render import Picture, Viewpoint, render_view
from scene.synthetic.room import Room, build_room
from utils.errors import UserError
from utils.geometry import look_at
from utils.images import write_id_map, write_pixels
from utils.json_files import read_json
from utils.storage import atomic_folder, atomic_write, write_text

Array = np.ndarray
logger = logging.getLogger(__name__)

GENERATOR = "iqgs synthetic room"
UP = np.array([0.0, 0.0, 1.0])
FOCAL = 0.9  # focal length over image height: about 58 degrees vertically
TURNS = 3  # of the spiral of cameras round the table
HELD_OUT_EVERY, HELD_OUT_FIRST = 5, 2  # inside the spiral: no held-out view is at its ends
POINT_NOISE = 0.005  # metres, of the sparse points
# Spacing of the labelled surface points in metres: coarser on the room's own planes.
SPACING, SHELL_SPACING = 0.015, 0.03
DEGRADED, SHUFFLED_FOLDER, CLEAN = "object_mask_degraded", "object_mask_shuffled", "object_mask"


def make_scene(params: SyntheticParams) -> Path:
    """Write a synthetic scene; returns its folder. The same parameters give the same bytes.

    Raises:
        UserError: the folder holds files of another program and `overwrite` is not set.
    """
    folder = Path(params.output)
    claim(folder, params.overwrite)
    room = build_room(params.seed, params.objects)
    views = place_cameras(params)
    pictures = render_views(room, views, params.samples, params.workers)
    train = [k for k in range(len(views)) if k % HELD_OUT_EVERY != HELD_OUT_FIRST]
    rng = np.random.default_rng([params.seed, 1])
    write_pictures(folder, views, pictures, params.geometry)
    write_model(folder / "sparse" / "0", views, sparse_points(pictures, train, params.points, rng))
    write_labels(folder, room, [pictures[k] for k in train])
    names = [view.name for view in views]
    split = {
        "train": [names[k] for k in train],
        "test": [name for k, name in enumerate(names) if k not in set(train)],
    }
    write_text(folder / "split.json", json.dumps(split, indent=1) + "\n")
    seen = sorted({int(i) for picture in pictures for i in np.unique(picture.labels)})
    named = {str(i): room.names[i] for i in seen}
    write_text(folder / "labels.json", json.dumps({"id_to_name": named}, indent=1) + "\n")
    about = {k: v for k, v in asdict(params).items() if k not in ("output", "overwrite", "workers")}
    about |= {"ground_truth": "synthetic", "generator": GENERATOR, "up": [0, 0, 1], "unit": "metre"}
    write_text(folder / "scene.json", json.dumps(about, indent=1) + "\n")
    if params.degraded:
        degrade_folder(folder, CLEAN, DEGRADED, MaskFaults(), params.seed)
    if params.shuffled:
        degrade_folder(folder, CLEAN, SHUFFLED_FOLDER, SHUFFLED, params.seed)
    return folder


def claim(folder: Path, overwrite: bool) -> None:
    """Make sure that the folder may be written: empty, ours, or `overwrite`."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder for the scene")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    about = folder / "scene.json"
    ours = about.is_file() and read_json(about).get("generator") == GENERATOR
    if not ours and not overwrite:
        raise UserError(
            f"{folder}: holds files that are not of a synthetic scene; "
            "name another folder, or give --overwrite"
        )
    # What this run may not write anew must not be left over from an older scene.
    for name in (DEGRADED, SHUFFLED_FOLDER):
        if (folder / f"{name}.json").is_file():
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / f"{name}.json").unlink()
    if ours:
        for name in ("depth", "normal"):
            shutil.rmtree(folder / name, ignore_errors=True)


def place_cameras(params: SyntheticParams) -> list[Viewpoint]:
    """A spiral round the table, from the height of the things on it to looking down on them."""
    rng = np.random.default_rng([params.seed, 2])
    start = rng.uniform(0, 2 * np.pi)
    views = []
    for k in range(params.views):
        share = k / max(1, params.views - 1)
        turn = start + 2 * np.pi * TURNS * share
        reach = 2.25 - 0.45 * share + rng.uniform(-0.06, 0.06)
        height = 1.08 + 1.2 * share + rng.uniform(-0.03, 0.06)
        eye = np.array([reach * np.cos(turn), reach * np.sin(turn), height])
        target = np.array([*rng.uniform(-0.15, 0.15, 2), rng.uniform(0.6, 0.72)])
        views.append(
            Viewpoint(
                f"view_{k:03d}.png",
                look_at(eye, target, UP),
                FOCAL * params.height,
                params.width,
                params.height,
            )
        )
    return views


def render_views(
    room: Room,
    views: Sequence[Viewpoint],
    samples: int,
    workers: int,
) -> list[Picture]:
    """Pictures of all views in order; the number of workers changes nothing but the time."""
    work = partial(render_view, room, samples=samples)
    if workers == 1 or len(views) == 1:
        return [work(view) for view in views]
    # Fresh processes, not forks: a fork of a process whose OpenMP threads run may hang.
    context = multiprocessing.get_context("spawn")
    with one_thread_each(), ProcessPoolExecutor(min(workers, len(views)), context) as pool:
        return list(pool.map(work, views))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread for their matrix products."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: "1" for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def write_pictures(
    folder: Path, views: Sequence[Viewpoint], pictures: Sequence[Picture], geometry: bool
) -> None:
    """images/, object_mask/ and, if asked for, depth/ and normal/ (camera frame)."""
    with atomic_folder(folder / "images") as images, atomic_folder(folder / CLEAN) as masks:
        for view, picture in zip(views, pictures, strict=True):
            write_pixels(images / view.name, (picture.color * 255.0 + 0.5).astype(np.uint8))
            write_id_map(masks / view.name, picture.labels)
    if not geometry:
        return
    with atomic_folder(folder / "depth") as depths, atomic_folder(folder / "normal") as normals:
        for view, picture in zip(views, pictures, strict=True):
            stem = Path(view.name).stem
            turned = picture.normals @ view.world_to_view[:3, :3].T.astype(np.float32)
            np.savez_compressed(depths / f"{stem}.npz", depth=picture.depth)
            np.savez_compressed(normals / f"{stem}.npz", normal=turned)


def sparse_points(
    pictures: Sequence[Picture], train: Sequence[int], count: int, rng: np.random.Generator
) -> ColmapPoints:
    """About what structure from motion leaves: noisy surface points with the colours of photos."""
    shares = np.diff(np.linspace(0, count, len(train) + 1).astype(int))
    positions, colors = [], []
    for share, k in zip(shares, train, strict=True):
        pick = rng.integers(0, pictures[k].depth.size, share)
        positions.append(pictures[k].points.reshape(-1, 3)[pick])
        colors.append(pictures[k].color.reshape(-1, 3)[pick])
    exact = np.concatenate(positions).astype(np.float64)
    noisy = exact + POINT_NOISE * rng.standard_normal(exact.shape)
    return ColmapPoints(noisy, (np.concatenate(colors) * 255.0 + 0.5).astype(np.uint8))


def write_model(folder: Path, views: Sequence[Viewpoint], points: ColmapPoints) -> None:
    """The COLMAP model: one PINHOLE camera, all poses, the sparse points."""
    first = views[0]
    intrinsics = (first.focal, first.focal, first.width / 2, first.height / 2)
    camera = ColmapCamera(1, "PINHOLE", first.width, first.height, intrinsics)
    images = []
    for k, view in enumerate(views):
        x, y, z, w = (float(v) for v in Rotation.from_matrix(view.world_to_view[:3, :3]).as_quat())
        shift = view.world_to_view[:3, 3]
        images.append(
            ColmapImage(
                k + 1,
                view.name,
                1,
                (w, x, y, z),
                (float(shift[0]), float(shift[1]), float(shift[2])),
            )
        )
    write_colmap_model(folder, [camera], images, points)


def write_labels(folder: Path, room: Room, pictures: Sequence[Picture]) -> None:
    """points3d_labels.npz: exact points of the seen surfaces, their normals and instance ids.

    One point in each cell of a grid, so that the density does not depend on the cameras.
    """
    positions = np.concatenate([p.points.reshape(-1, 3) for p in pictures])
    normals = np.concatenate([p.normals.reshape(-1, 3) for p in pictures])
    labels = np.concatenate([p.labels.ravel() for p in pictures])
    spacing = np.where(np.isin(labels, room.shell_ids), SHELL_SPACING, SPACING)
    cells = np.floor(positions / spacing[:, None]).astype(np.int64) + 1024
    key = ((labels * 2048 + cells[:, 0]) * 2048 + cells[:, 1]) * 2048 + cells[:, 2]
    _, kept = np.unique(key, return_index=True)
    atomic_write(
        folder / "points3d_labels.npz",
        lambda stream: np.savez_compressed(
            stream, positions=positions[kept], labels=labels[kept], normals=normals[kept]
        ),
    )
