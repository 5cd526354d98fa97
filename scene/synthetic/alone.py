# SPDX-License-Identifier: Apache-2.0
"""Masks of a synthetic scene's objects, each alone: the truth for extracted ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scene.cameras import Camera
from scene.synthetic.render import Viewpoint, pixel_rays, shell_hit, trace
from scene.synthetic.room import Room, build_room
from scene.synthetic.writer import GENERATOR
from utils.json_files import read_json

Array = np.ndarray
CENTERED = 1e-3  # pixels: the rays of a room's cameras pass round the middle of the picture


def room_of(folder: Path) -> Room | None:
    """The room of a synthetic scene's folder; None where it is another scene."""
    path = folder / "scene.json"
    about = read_json(path) if path.is_file() else {}
    if about.get("generator") != GENERATOR:
        return None
    try:
        return build_room(int(about["seed"]), int(about["objects"]))
    except (KeyError, TypeError, ValueError):  # written by another version
        return None


def viewpoint_of(camera: Camera) -> Viewpoint | None:
    """The viewpoint of a camera; None where it is none that a room is seen from."""
    off = max(abs(camera.cx - camera.width / 2), abs(camera.cy - camera.height / 2))
    if off > CENTERED or abs(camera.fx - camera.fy) > CENTERED:
        return None
    pose = camera.world_to_view.numpy()
    return Viewpoint(camera.name, pose, camera.fx, camera.width, camera.height)


def masks_alone(room: Room, view: Viewpoint) -> dict[int, Array]:
    """Mask [H, W] bool of every object and face of the room with nothing else there, by its id."""
    shape = (view.height, view.width)
    rows, columns = (g.ravel() + 0.5 for g in np.mgrid[: view.height, : view.width])
    directions, origin = pixel_rays(view, columns, rows), view.center[:, None]
    _, face = shell_hit(room, origin, directions)
    masks = {number: (face == k).reshape(shape) for k, number in enumerate(room.shell_ids)}
    for number in sorted({part.thing for part in room.parts}):
        parts = tuple(part for part in room.parts if part.thing == number)
        hits = trace(replace(room, parts=parts), origin, directions)
        masks[number] = (hits.surface < len(parts)).reshape(shape)
    return masks
