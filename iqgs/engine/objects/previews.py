# SPDX-License-Identifier: Apache-2.0
"""A picture of each object alone, from the view that shows it best, and a sheet of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import MIN_WEIGHT, Lens, render
from iqgs.engine.pictures.views import to_bytes
from iqgs.engine.run import Run, spread_cameras
from iqgs.export.mesh.rendered import objects_of_pixels, pixels_of
from iqgs.methods.winners import SOLID_ALPHA
from iqgs.objects.catalog import ObjectEntry
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from utils.colors import id_color
from utils.geometry import look_at

SIDE = 192  # pixels of a preview
GROUND = 0.93  # brightness around an object: light objects and dark ones both stand out
MARGIN = 1.15  # picture over object
WIDEST = 1.2  # tangent of half the field of view: of objects that surround the camera, a part
STEEP = 0.99  # cosine to the scene's up beyond which a camera looks along it
JUDGED_SIDE = 256  # pixels of the longer side in which views are compared
CUT_OFF = 0.5  # what a view counts in which the object reaches the border

Pixels = NDArray[np.uint8]


@torch.no_grad()
def best_views(run: Run, objects: LabelledSplats) -> dict[int, Camera]:
    """For each object that some training view shows, the one that shows most of it."""
    best: dict[int, float] = {}
    found: dict[int, Camera] = {}
    labels = objects.labels.to(objects.splats.device)
    for camera in spread_cameras(run) or run.cameras.test:
        shrink = min(1.0, JUDGED_SIDE / max(camera.width, camera.height))
        small = camera.resized(
            max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink))
        )
        shown = shown_objects(run.renderer.lens(small, objects.splats), labels)
        edge = set(np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]]).tolist())
        for number, count in zip(*np.unique(shown, return_counts=True), strict=True):
            value = float(count) / (small.width * small.height)
            value *= CUT_OFF if number in edge else 1.0
            if number and value > best.get(int(number), 0.0):
                best[int(number)], found[int(number)] = value, camera
    return found


def shown_objects(lens: Lens, labels: Tensor) -> NDArray[np.int64]:
    """The object with the most weight in each pixel [H, W], 0 where less than half is covered.

    From one list of weights: pictures of each object's share would be drawn by the dozen.
    """
    weights = lens.weights(MIN_WEIGHT)
    found, _ = objects_of_pixels(weights, labels)
    covered = torch.zeros(len(found), dtype=weights.weight.dtype, device=labels.device)
    covered.index_add_(0, pixels_of(weights), weights.weight)
    found = torch.where(covered >= SOLID_ALPHA, found, 0)
    shown: NDArray[np.int64] = found.reshape(lens.camera.height, -1).cpu().numpy()
    return shown


@torch.no_grad()
def preview(run: Run, splats: GaussianModel, entry: ObjectEntry, camera: Camera) -> Pixels:
    """An object alone [SIDE, SIDE, 3], all of it, seen from where a camera stands."""
    background = torch.full((3,), GROUND)
    seen = render(
        facing(camera, entry, SIDE, run.frame.up),
        splats,
        background,
        with_instance=False,
        depth_ratio=None,
        backend=run.config.pipeline.backend,
    )
    return to_bytes(seen.color)


def facing(
    camera: Camera, entry: ObjectEntry, side: int, up: tuple[float, float, float] | None
) -> Camera:
    """A square camera at the place of another that looks at an object and shows all of its box; the
    scene's `up` is up in it, where that is known and not where the camera looks.
    """
    center = np.asarray(entry.center)
    position = camera.center.numpy()
    upwards = -camera.world_to_view[1, :3].numpy()
    if up is not None:
        ahead = (center - position) / max(float(np.linalg.norm(center - position)), 1e-9)
        upright = np.asarray(up) / np.linalg.norm(up)
        upwards = upright if abs(ahead @ upright) < STEEP else upwards
    pose = look_at(position, center, upwards)
    corners = np.array(np.meshgrid(*zip(entry.low, entry.high, strict=True))).reshape(3, -1).T
    local = corners @ pose[:3, :3].T + pose[:3, 3]
    ahead = np.maximum(local[:, 2:], camera.near)
    reach = float(np.abs(local[:, :2] / ahead).max()) * MARGIN
    focal = side / (2 * min(max(reach, 1e-3), WIDEST))
    return replace(
        camera,
        world_to_view=torch.from_numpy(pose),
        fx=focal,
        fy=focal,
        cx=side / 2,
        cy=side / 2,
        width=side,
        height=side,
    )


def contact_sheet(entries: Sequence[ObjectEntry], pictures: Mapping[int, Pixels]) -> Pixels:
    """All previews in rows, each with the number, the name and the colour of its id."""
    columns = min(max(1, round((1.5 * len(entries)) ** 0.5)), 24)
    label, gap = 24, 4
    wide, high = SIDE + gap, SIDE + label + gap
    rows = max(1, -(-len(entries) // columns))
    sheet = np.full((rows * high + gap, columns * wide + gap, 3), 255, np.uint8)
    for index, entry in enumerate(entries):
        top, left = gap + index // columns * high, gap + index % columns * wide
        sheet[top : top + SIDE, left : left + SIDE] = pictures[entry.id]
        below = sheet[top + SIDE : top + SIDE + label, left : left + SIDE]
        below[:, :6] = id_color(np.array([entry.id]))[0]
        text = f"{entry.id} {entry.name}".strip().encode("ascii", "replace").decode()
        cv2.putText(
            below, text[:22], (12, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
    return sheet
