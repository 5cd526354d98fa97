# SPDX-License-Identifier: Apache-2.0
"""From a scene's folder to its views, points and ids: all checks that can be made before training.

Only headers of the photographs are read here; their pixels follow when a view is first used. Masks
are read once in full, because their ids have to be known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from arguments import ModelParams
from scene.cameras import Camera, scene_extent
from scene.frame import SceneFrame, local_origin, read_up, up_direction
from scene.masks import (
    IdTable,
    MaskCollection,
    MaskRequest,
    collect_masks,
    labels_file,
    refuse_errors,
)
from scene.points import PointCloud
from scene.readers.colmap import ColmapModel
from scene.readers.layout import read_scene_files
from scene.readers.photos import at_render_size, without_missing
from scene.readers.points import initial_points
from scene.readers.posed import PosedImage, SceneFiles
from scene.splits import split_names
from scene.view import View
from utils.errors import MaskError


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene that is ready to train on."""

    train: tuple[View, ...]
    test: tuple[View, ...]
    points: PointCloud
    extent: float  # 1.1 x largest distance of a training camera from their mean
    id_table: IdTable | None  # None without masks
    source_path: Path
    kind: str  # colmap | transforms | blender | scan
    notices: tuple[str, ...]  # what the user should know, one sentence each
    frame: SceneFrame = SceneFrame()  # what the coordinates mean in those of the files
    model: ColmapModel | None = None  # tracks and observations, in the coordinates of the files


def load_scene(params: ModelParams, *, seed: int, frame: SceneFrame | None = None) -> Scene:
    """Read and check a scene. Raises DataError, FormatError or UserError; see the module.

    `seed` is that of the random points. `frame` is that of a run that was trained on the scene
    before; without one a scene that lies far from zero gets an origin of its own.
    """
    notices: list[str] = []
    files = read_scene_files(params, notices)
    frame = frame or _find_frame(files, Path(params.source_path), notices)
    posed = [replace(i, camera=i.camera.moved(frame.origin)) for i in files.posed]
    posed = without_missing(posed, files.photographs, params.skip_missing, notices)
    posed = at_render_size(posed, params, notices)
    held_out = {image.camera.name for image in posed if image.held_out}
    train_names, test_names = split_names([i.camera.name for i in posed], held_out, params)
    views, id_table = _make_views(posed, params, train_names, notices)
    train = tuple(views[name] for name in train_names)
    cameras = [view.camera for view in train]
    return Scene(
        train=train,
        test=tuple(views[name] for name in test_names),
        points=initial_points(files, cameras, params, seed, frame.origin, notices),
        extent=_extent(cameras, notices),
        id_table=id_table,
        source_path=Path(params.source_path),
        kind=files.kind,
        notices=tuple(notices),
        frame=frame,
        model=files.model,
    )


def _find_frame(files: SceneFiles, source: Path, notices: list[str]) -> SceneFrame:
    """Where the run's coordinates begin, and which way is up."""
    cameras = [image.camera for image in files.posed]
    origin = local_origin(cameras, None if files.points is None else files.points.positions)
    if any(origin):
        x, y, z = origin
        notices.append(
            f"the scene's coordinates are too large for single precision: the run computes round "
            f"({x:.12g}, {y:.12g}, {z:.12g}), which frame.json holds and its files are relative to"
        )
    return SceneFrame(origin, read_up(source / "scene.json") or up_direction(cameras))


def _make_views(
    posed: list[PosedImage], params: ModelParams, train: list[str], notices: list[str]
) -> tuple[dict[str, View], IdTable | None]:
    """All views by name, with the table of the ids that occur in any of their masks."""
    found = None if params.no_masks else _checked_masks(posed, params, train, notices)
    table = None if found is None else found.table
    background = 1.0 if params.white_background else 0.0
    views = {}
    for image in posed:
        name = image.camera.name
        views[name] = View(
            image.camera,
            image.path,
            None if found is None else found.masks.get(name),
            table,
            background,
            params.data_cache,
            picture=image.picture,
        )
    return views, table


def _checked_masks(
    posed: list[PosedImage], params: ModelParams, train: list[str], notices: list[str]
) -> MaskCollection:
    """The masks of all images. Raises MaskError for the first fault, notes all warnings."""
    source = Path(params.source_path)
    folder = source / params.object_path
    wanted = MaskRequest(
        folder,
        labels_file(source, folder),
        params.zero_label,
        params.ignore_label,
        keep=params.data_cache,
        colors={},
    )
    found = collect_masks(
        wanted,
        [image.camera for image in posed],
        train,
        {image.camera.name: image.picture for image in posed},
    )
    try:
        refuse_errors(found.findings)
    except MaskError as error:
        if error.kind != "none":
            raise
        ways = "give --object_path, or --no_masks to train colour only"
        raise MaskError(f"{error}; {ways}", error.kind) from error
    notices += [item.sentence for item in found.findings if item.severity == "warning"]
    return found


def _extent(cameras: list[Camera], notices: list[str]) -> float:
    extent = scene_extent(cameras)
    if extent > 0:
        return extent
    notices.append("the training cameras are all in one place; the scene's extent is taken as 1")
    return 1.0
