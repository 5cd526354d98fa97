# SPDX-License-Identifier: Apache-2.0
"""The objects that a command line means, in a run."""

from __future__ import annotations

from pathlib import PurePosixPath

import torch

from arguments.editing import SelectionParams, numbers
from gaussian_renderer import MIN_WEIGHT
from iqgs.engine.run import Run
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.levels import parts_of
from iqgs.objects.selection import number_of, object_at, objects_in_box
from scene.cameras import Camera
from utils.errors import UserError

NAMED_VIEWS = 3  # how many names a message lists


def object_number(objects: LabelledSplats, wanted: str) -> int:
    """The number of an object with splats, from that number or from its name. UserError."""
    parts = parts_of_whole(objects, wanted)
    if parts:
        raise UserError(f"--id {wanted}: consists of parts {list(parts)}; choose one of them")
    try:
        return number_of(objects, wanted)
    except ValueError as error:
        raise UserError(f"--id {wanted}: {error}") from None


def parts_or_itself(objects: LabelledSplats, wanted: str) -> tuple[int, ...]:
    """An object by number or name, or its parts where these have all of its splats. UserError."""
    return parts_of_whole(objects, wanted) or (object_number(objects, wanted),)


def chosen_objects(run: Run, objects: LabelledSplats, params: SelectionParams) -> tuple[int, ...]:
    """The numbers that --id, --pixel and --box ask for, each once, in this order; those of the
    parts where an object has some. UserError.
    """
    found = [number for parts in chosen_wholes(run, objects, params) for number in parts]
    return tuple(dict.fromkeys(found))


def chosen_wholes(
    run: Run, objects: LabelledSplats, params: SelectionParams
) -> list[tuple[int, ...]]:
    """What is asked for, one by one: an object, or the parts of one. UserError."""
    found = [parts_or_itself(objects, wanted) for wanted in params.id]
    if params.pixel:
        found.append((_seen_at(run, objects, params),))
    if params.box:
        x0, y0, z0, x1, y1, z1 = numbers("box", params.box, 6)
        inside = objects_in_box(objects, (x0, y0, z0, x1, y1, z1))
        if not inside:
            raise UserError(f"--box {params.box}: no object has most of its splats in it")
        found += [(number,) for number in inside]
    return list(dict.fromkeys(found))


def parts_of_whole(objects: LabelledSplats, wanted: str) -> tuple[int, ...]:
    """The parts of an object, by number or name, that has no splats of its own; else none."""
    for whole in sorted(set(objects.parents.values()) - set(objects.numbers())):
        if wanted in (str(whole), objects.names.get(whole)):
            return tuple(parts_of(objects, whole))
    return ()


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
