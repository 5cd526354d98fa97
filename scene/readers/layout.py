# SPDX-License-Identifier: Apache-2.0
"""Which kind of scene a folder holds, and who reads it."""

from __future__ import annotations

from pathlib import Path

from arguments import ModelParams
from scene.readers.colmap import find_colmap_folder, read_colmap_model
from scene.readers.colmap.reading import MODEL_PLACES, models_in
from scene.readers.photo_files import (
    PHOTO_FOLDERS,
    find_photographs,
    foreign_files,
    listed,
    photograph_folder,
    photographs_in,
)
from scene.readers.photos import posed_images
from scene.readers.posed import SceneFiles
from scene.readers.scan import INTRINSICS, POSES, is_scan, named_split, read_scan
from scene.readers.transforms import (
    CAPTURE_FILE,
    SPLIT_FILES,
    is_blender_scene,
    is_capture,
    read_blender_scene,
    read_capture,
    with_split,
)
from utils.errors import DataError
from utils.links import check_inside

SCANNETPP_SPLIT = "train_test_lists.json"  # in dslr/, beside colmap/
# Entries of a folder that a sentence names before the count takes over.
_NAMED = 8


def read_scene_files(params: ModelParams, notices: list[str]) -> SceneFiles:
    """Poses, photographs and points as the files of a scene have them.

    A COLMAP model in sparse/ comes first, then transforms_train.json, transforms.json, poses as
    text files, and COLMAP models elsewhere; --sparse asks for a COLMAP model. Raises DataError,
    FormatError or UserError.
    """
    source = Path(params.source_path)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; --source_path must be the scene's folder")
    places = MODEL_PLACES[:1] if _has_other_poses(source) and not params.sparse else MODEL_PLACES
    folder = find_colmap_folder(source, params.sparse, notices, places)
    if folder is not None:
        files = _colmap_scene(folder, params, notices)
    elif is_blender_scene(source):
        files = read_blender_scene(params)
    elif is_capture(source):
        files = read_capture(params, notices)
    elif is_scan(source):
        files = read_scan(params, notices)
    else:
        raise DataError(_nothing_recognised(source))
    for image in files.posed:
        root = files.photographs
        if files.model is None and "/" in image.camera.name:
            root = source / image.camera.name.split("/")[0]
        check_inside(image.path, root, source)
    return files


def _colmap_scene(folder: Path, params: ModelParams, notices: list[str]) -> SceneFiles:
    source = Path(params.source_path)
    model = read_colmap_model(folder)
    names = [image.name for image in model.images]
    photographs = photograph_folder(params, names, notices)
    found = find_photographs(photographs, names, params.pair_by_order, notices)
    if found.others:
        notices.append(
            f"{len(found.others)} photographs of {photographs} have no pose in {folder} and are "
            f"not used: {listed(found.others)}"
        )
    clouds = (folder / "points3D.ply", source / "points3d.ply", source / "points3D.ply")
    posed = posed_images(model, found)
    if params.eval and (source / SCANNETPP_SPLIT).is_file():
        lists = named_split(source / SCANNETPP_SPLIT)
        posed = with_split(posed, source / SCANNETPP_SPLIT, lists, notices)
    return SceneFiles("colmap", posed, photographs, model.points, clouds, model)


def _has_other_poses(folder: Path) -> bool:
    """Whether the folder has poses that are no COLMAP model."""
    return is_blender_scene(folder) or is_capture(folder) or is_scan(folder)


def _nothing_recognised(source: Path) -> str:
    """What was looked for, what there is, and what to pass."""
    entries = sorted(path.name + "/" * path.is_dir() for path in source.iterdir())
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    held = f"it holds {', '.join(entries[:_NAMED])}{more}" if entries else "it is empty"
    return (
        f"{source}: no poses were found: neither a COLMAP model (images.bin or images.txt in "
        "sparse/, sparse/NAME/, colmap/, colmap/sparse/NAME/ or the folder itself) nor "
        f"{SPLIT_FILES[0]}, {CAPTURE_FILE} or a scan's {POSES}/ with {INTRINSICS}; {held}; "
        f"{_advice(source)}"
    )


def _advice(source: Path) -> str:
    """The next step, by what the folder and those below it hold."""
    depths = ("*", "*/*")
    for folder in sorted(path for depth in depths for path in source.glob(depth) if path.is_dir()):
        here = any(models_in(folder / place) for place in MODEL_PLACES if place)
        if here or _has_other_poses(folder):
            return f"pass -s {folder}, which is a scene"
    count = len(photographs_in(source, below=False))
    count += sum(len(photographs_in(source / name)) for name in PHOTO_FOLDERS)
    if count:
        return f"for its {count} photographs, python scripts/convert.py -s {source} finds the poses"
    return f"pass -s the folder that holds images/ and sparse/{foreign_files(source)}"
