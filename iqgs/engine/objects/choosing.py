# SPDX-License-Identifier: Apache-2.0
"""The objects that a command line means, in a run."""

from __future__ import annotations

from pathlib import PurePosixPath

import torch

from arguments.editing import SelectionParams, numbers
from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.run import Run
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.selection import number_of, object_at, objects_in_box
from scene.cameras import Camera
from utils.errors import UserError

NAMED_VIEWS = 3  # how many names a message lists


def object_number(objects: LabelledSplats, wanted: str) -> int:
    """The number of an object with splats, from that number or from its name. UserError."""
    try:
        return number_of(objects, wanted)
    except ValueError as error:
        raise UserError(f"--id {wanted}: {error}") from None


def chosen_objects(run: Run, objects: LabelledSplats, params: SelectionParams) -> tuple[int, ...]:
    """The numbers that --id, --pixel and --box ask for, each once, in this order. UserError."""
    found = [object_number(objects, wanted) for wanted in params.id]
    if params.pixel:
        found.append(_seen_at(run, objects, params))
    if params.box:
        x0, y0, z0, x1, y1, z1 = numbers("box", params.box, 6)
        inside = objects_in_box(objects, (x0, y0, z0, x1, y1, z1))
        if not inside:
            raise UserError(f"--box {params.box}: no object has most of its splats in it")
        found += inside
    return tuple(dict.fromkeys(found))


def view_camera(run: Run, name: str) -> Camera:
    """The camera of a view, training or held out, by its photograph's name. UserError."""
    cameras = (*run.cameras.train, *run.cameras.test)
    exact = [camera for camera in cameras if camera.name == name]
    stem = [c for c in cameras if PurePosixPath(c.name).with_suffix("").as_posix() == name]
    found = exact or stem
    if len(found) == 1:
        return found[0]
    some = ", ".join(sorted(c.name for c in (found or cameras))[:NAMED_VIEWS])
    if found:
        raise UserError(f"--view {name}: several views have this name ({some}); give the suffix")
    raise UserError(f"--view {name}: the run has no such view; it has {some} and so on")


@torch.no_grad()
def _seen_at(run: Run, objects: LabelledSplats, params: SelectionParams) -> int:
    """The object in front at a pixel of a view. UserError where there is none."""
    camera = view_camera(run, params.view)
    x, y = (int(word) for word in params.pixel.split(","))
    if x >= camera.width or y >= camera.height:
        raise UserError(
            f"--pixel {params.pixel}: view {camera.name} has {camera.width}x{camera.height} "
            "pixels, counted from 0"
        )
    weights = run.renderer.lens(camera, objects.splats).weights(MIN_WEIGHT)
    number = object_at(weights, y * camera.width + x, objects)
    if not number:
        raise UserError(f"--pixel {params.pixel}: no object is seen there in view {camera.name}")
    return number
