# SPDX-License-Identifier: Apache-2.0
"""From a scene's folder to its views, points and ids: all checks that can be made before training.

Only headers of the photographs are read here; their pixels follow when a view is first used. Masks
are read once in full, because their ids have to be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from scene.cameras import Camera, PosedImage, scene_extent
from scene.masks import IdTable, MaskCollection, MaskRequest, collect_masks, refuse_errors
from scene.points import (
    PointCloud,
    from_colmap,
    random_object_points,
    random_scene_points,
    read_point_ply,
)
from scene.readers.colmap import find_colmap_folder, read_colmap_model
from scene.readers.colmap.model import ColmapModel
from scene.readers.photos import at_render_size, posed_images, without_missing
from scene.readers.transforms import is_blender_scene, read_blender_scene
from scene.splits import every_eighth, names_in_folder, read_split, thin_out
from scene.view import View
from utils.errors import DataError, MaskError


@dataclass(frozen=True)
class SceneRequest:
    """What to load; the fields are the options of the command line of the same names."""

    source_path: Path
    images: str = "images"
    object_path: str = "object_mask"
    resolution: int = -1
    white_background: bool = False
    eval: bool = False
    n_views: int = 100
    train_split: bool = False
    no_masks: bool = False
    zero_label: str = "background"
    ignore_label: int = -1
    random_init: bool = False
    skip_missing: bool = False
    seed: int = 0
    random_points: int = 100_000  # how many, where there are no sparse points to start from
    data_cache: bool = True  # keep pixels in memory after their first use


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene that is ready to train on."""

    train: tuple[View, ...]
    test: tuple[View, ...]
    points: PointCloud
    extent: float  # 1.1 x largest distance of a training camera from their mean
    id_table: IdTable | None  # None without masks
    source_path: Path
    kind: str  # colmap | blender
    notices: tuple[str, ...]  # what the user should know, one sentence each


def load_scene(request: SceneRequest) -> Scene:
    """Read and check a scene. Raises DataError, FormatError or UserError; see the module."""
    notices: list[str] = []
    source = Path(request.source_path)
    model = None
    if not source.is_dir():
        raise DataError(
            f"{source}: no such folder; -s (--source_path) must name the scene's folder"
        )
    folder = find_colmap_folder(source)
    if folder is not None:
        model = read_colmap_model(folder)
        posed = posed_images(model, source / request.images)
    elif is_blender_scene(source):
        posed = read_blender_scene(source)
    else:
        raise DataError(
            f"{source}: neither a COLMAP model (sparse/0/images.bin or .txt) nor a "
            "transforms_train.json was found"
        )
    posed = without_missing(posed, request.skip_missing, notices)
    posed = at_render_size(posed, request.resolution, notices)
    train_names, test_names = _split(posed, request, notices)
    views, id_table = _make_views(posed, request, train_names, notices)
    train = tuple(views[name] for name in train_names)
    cameras = [view.camera for view in train]
    return Scene(
        train=train,
        test=tuple(views[name] for name in test_names),
        points=_initial_points(model, cameras, request, notices),
        extent=_extent(cameras, notices),
        id_table=id_table,
        source_path=source,
        kind="blender" if model is None else "colmap",
        notices=tuple(notices),
    )


def _split(
    posed: list[PosedImage], request: SceneRequest, notices: list[str]
) -> tuple[list[str], list[str]]:
    """Names of the training and of the held-out views."""
    names = [image.camera.name for image in posed]
    source = Path(request.source_path)
    if request.train_split:
        chosen = names_in_folder(source / "images_train", names)
        held_out = set(names) - chosen
    elif not request.eval:
        return names, []
    elif (source / "split.json").is_file():
        train, test = read_split(source / "split.json", names)
        if not train:
            raise DataError(f"{source / 'split.json'}: no image of the scene is in 'train'")
        return thin_out(train, request.n_views), test
    elif any(image.held_out for image in posed):
        held_out = {image.camera.name for image in posed if image.held_out}
    else:
        held_out = every_eighth(names)
    train = [name for name in names if name not in held_out]
    if not train:
        raise DataError(f"{source}: no view is left to train on after the split of {len(names)}")
    if not request.train_split:
        train = thin_out(train, request.n_views)
    return train, [name for name in names if name in held_out]


def _make_views(
    posed: list[PosedImage], request: SceneRequest, train: list[str], notices: list[str]
) -> tuple[dict[str, View], IdTable | None]:
    """All views by name, with the table of the ids that occur in any of their masks."""
    found = None if request.no_masks else _checked_masks(posed, request, train, notices)
    table = None if found is None else found.table
    background = 1.0 if request.white_background else 0.0
    views = {}
    for image in posed:
        name = image.camera.name
        read = None if found is None else found.masks.get(name)
        views[name] = View(
            image.camera,
            image.path,
            None if read is None else read.path,
            table,
            background,
            request.data_cache,
            read_mask=read,
        )
    return views, table


def _checked_masks(
    posed: list[PosedImage], request: SceneRequest, train: list[str], notices: list[str]
) -> MaskCollection:
    """The masks of all images. Raises MaskError for the first fault, notes all warnings."""
    source = Path(request.source_path)
    wanted = MaskRequest(
        source / request.object_path,
        source / "labels.json",
        request.zero_label,
        request.ignore_label,
        keep=request.data_cache,
        colors={},
    )
    found = collect_masks(wanted, [image.camera for image in posed], train)
    try:
        refuse_errors(found.findings)
    except MaskError as error:
        if error.kind != "none":
            raise
        ways = "give --object_path, or --no_masks to train colour only"
        raise MaskError(f"{error}; {ways}", error.kind) from error
    notices += [item.sentence for item in found.findings if item.severity == "warning"]
    return found


def _initial_points(
    model: ColmapModel | None, cameras: list[Camera], request: SceneRequest, notices: list[str]
) -> PointCloud:
    """Sparse points of the scene, else random ones with a notice."""
    generator = torch.Generator().manual_seed(request.seed)
    count = request.random_points
    if request.random_init:
        notices.append(f"starting from {count} random points as --random_init asks")
        if model is None:
            return random_object_points(count, generator)
        return random_scene_points(cameras, count, generator)
    if model is not None and model.points is not None and len(model.points):
        return from_colmap(model.points)
    source = Path(request.source_path)
    folder = find_colmap_folder(source) or source
    for path in (folder / "points3D.ply", source / "points3d.ply"):
        if path.is_file():
            cloud = read_point_ply(path)
            if len(cloud):
                return cloud
    notices.append(
        f"{folder}: no sparse points (points3D.bin, .txt or .ply), starting from {count} random "
        "points as with --random_init; sparse points give better results"
    )
    if model is None:
        return random_object_points(count, generator)
    return random_scene_points(cameras, count, generator)


def _extent(cameras: list[Camera], notices: list[str]) -> float:
    extent = scene_extent(cameras)
    if extent > 0:
        return extent
    notices.append("the training cameras are all in one place; the scene's extent is taken as 1")
    return 1.0
