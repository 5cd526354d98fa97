# SPDX-License-Identifier: Apache-2.0
"""Scenes in the form of transforms files: NeRF's synthetic data, and captures of nerfstudio,
instant-ngp, Polycam and Record3D.

Poses are camera-to-world in OpenGL's convention (x right, y up, z backward). A frame's own numbers
win over the file's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from arguments import ModelParams
from scene.readers.colmap import (
    ColmapPoints,
    check_image_name,
    find_colmap_folder,
    read_colmap_model,
)
from scene.readers.photo_files import PHOTO_SUFFIXES
from scene.readers.posed import PosedImage, SceneFiles
from scene.readers.transforms_camera import frame_camera, frame_lens
from utils.errors import DataError, FormatError
from utils.json_files import read_json

CAPTURE_FILE = "transforms.json"
SPLIT_FILES = ("transforms_train.json", "transforms_val.json", "transforms_test.json")


def is_blender_scene(source_path: Path) -> bool:
    """Whether the folder has a transforms_train.json."""
    return (source_path / SPLIT_FILES[0]).is_file()


def is_capture(source_path: Path) -> bool:
    """Whether the folder has a transforms.json."""
    return (source_path / CAPTURE_FILE).is_file()


def read_blender_scene(params: ModelParams) -> SceneFiles:
    """All posed images of the split files; those of transforms_test.json are marked as held out.

    transforms_val.json stands in where there is no test file. Raises DataError or FormatError
    naming the file, and the frame where there is one.
    """
    source = Path(params.source_path)
    images = _read_frames(params, SPLIT_FILES[0], held_out=False)
    held_out = next((name for name in SPLIT_FILES[2:0:-1] if (source / name).is_file()), None)
    if held_out is not None:
        images += _read_frames(params, held_out, held_out=True)
    _check_unique(images, source)
    return SceneFiles("blender", images, source, None, (source / "points3d.ply",))


def read_capture(params: ModelParams, notices: list[str]) -> SceneFiles:
    """All posed images of a transforms.json, with its own split and point cloud if it names them.

    Raises DataError or FormatError naming the file, and the frame where there is one.
    """
    source = Path(params.source_path)
    path = source / CAPTURE_FILE
    record = read_json(path)
    images = _read_frames(params, CAPTURE_FILE, held_out=None)
    _check_unique(images, source)
    lists = _names(record, ("train",), params), _names(record, ("test", "val"), params)
    if params.eval and any(lists):
        images = with_split(images, path, lists, notices)
    clouds = [source / "sparse_pc.ply", source / "points3d.ply", source / "points3D.ply"]
    named = record.get("ply_file_path")
    if isinstance(named, str) and named:
        clouds.insert(0, source / check_image_name(named, f"{path}: ply_file_path"))
        if not clouds[0].is_file():
            raise DataError(f"{path}: ply_file_path names {named}, which is not there")
    points = None
    if not any(cloud.is_file() for cloud in clouds):
        points = _points_of_colmap(record, images, source)
    return SceneFiles("transforms", images, source, points, tuple(clouds))


def _points_of_colmap(
    record: dict[str, Any], images: list[PosedImage], source: Path
) -> ColmapPoints | None:
    """Points of the COLMAP model in colmap/sparse/, moved to the poses of the transforms file.

    nerfstudio turns COLMAP's world by `applied_transform` and scales it by `applied_scale`.
    Believed only if that brings the model's own cameras to where the file has them.
    """
    folder = find_colmap_folder(source, "", [], ("colmap/sparse",))
    if folder is None:
        return None
    model = read_colmap_model(folder)
    move, scale = record.get("applied_transform", np.eye(4)[:3]), record.get("applied_scale", 1.0)
    try:
        matrix = np.array(move, np.float64)[:3] * float(scale)
        turn, shift = matrix[:, :3], matrix[:, 3]
    except (TypeError, ValueError, IndexError):
        return None
    here = {PurePosixPath(i.camera.name).name: i.camera.center.numpy() for i in images}
    pairs = [
        (turn @ -(pose[:3, :3].T @ pose[:3, 3]) + shift, here[name])
        for image in model.images
        for name, pose in [(PurePosixPath(image.name).name, image.world_to_view())]
        if name in here
    ]
    if model.points is None or len(pairs) < 3:
        return None
    moved, expected = np.array(pairs).transpose(1, 0, 2)
    if np.abs(moved - expected).max() > 1e-3 * np.ptp(expected, axis=0).max():
        return None
    return replace(model.points, positions=model.points.positions @ turn.T + shift)


def _check_unique(images: list[PosedImage], source: Path) -> None:
    names = [image.camera.name for image in images]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{source}: image {twice!r} is listed twice in the transforms files")


def _names(record: dict[str, Any], splits: tuple[str, ...], params: ModelParams) -> set[str]:
    """The file names that nerfstudio's <split>_filenames list, without suffixes."""
    found: set[str] = set()
    for split in splits:
        where = f"{Path(params.source_path) / CAPTURE_FILE}: {split}_filenames"
        names = record.get(f"{split}_filenames", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FormatError(f"{where} must be a list of file names")
        found |= {bare_name(_scene_name(params, name, where)) for name in names}
    return found


def bare_name(name: str) -> str:
    """A file's name without its suffix, by which splits name it."""
    return PurePosixPath(name).with_suffix("").as_posix()


def with_split(
    images: list[PosedImage], path: Path, lists: tuple[set[str], set[str]], notices: list[str]
) -> list[PosedImage]:
    """The images marked by the file's own lists; those in neither are left out.

    With one list alone the others are the other split.
    """
    names = {bare_name(image.camera.name) for image in images}
    train, test = lists[0] or names - lists[1], lists[1] or names - lists[0]
    if train & test:
        raise FormatError(f"{path}: image {sorted(train & test)[0]!r} is in both splits")
    marked = [
        replace(image, held_out=bare_name(image.camera.name) in test)
        for image in images
        if bare_name(image.camera.name) in train | test
    ]
    if len(marked) < len(images):
        notices.append(
            f"{len(images) - len(marked)} of {len(images)} frames are in neither split of {path} "
            "and are left out"
        )
    return marked


def _read_frames(params: ModelParams, file: str, held_out: bool | None) -> list[PosedImage]:
    source = Path(params.source_path)
    path = source / file
    record = read_json(path)
    frames = record.get("frames")
    if not isinstance(frames, list) or not frames:
        raise FormatError(f"{path}: expected a list 'frames' with at least one frame")
    images, photographs = [], _Photographs()
    for index, frame in enumerate(frames):
        where = f"{path} frame {index}"
        if not isinstance(frame, dict):
            raise FormatError(f"{where}: expected an object")
        name = frame.get("file_path")
        if not isinstance(name, str):
            raise FormatError(f"{where}: file_path is missing")
        image = photographs.find(source / _scene_name(params, name, where))
        values = {**record, **frame}
        camera = frame_camera(image, source, values, where)
        images.append(PosedImage(camera, image, held_out, frame_lens(camera, values, where)))
    return images


def _scene_name(params: ModelParams, name: str, where: str) -> str:
    """A file's path inside the scene, in the folder that --images names if it names another one."""
    try:
        name = check_image_name(name, where)
    except FormatError:
        # Paths of the machine that wrote the file: the end of one is often there here as well.
        tail = _known_tail(Path(params.source_path), name)
        if tail is None:
            raise
        name = tail
    parts = PurePosixPath(name).parts
    if params.images != ModelParams.images and parts[0] == ModelParams.images:
        return PurePosixPath(params.images, *parts[1:]).as_posix()
    return name


class _Photographs:
    """Finds files whose names lack a suffix ("./train/r_0"), or have another one or letter case."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def find(self, path: Path) -> Path:
        """The path itself if it is a file, else the only photograph that its name can mean."""
        if path.is_file():
            return path
        known = self._listing(path.parent)
        for key in (path.name.casefold(), path.stem.casefold()):
            if len(known.get(key, [])) == 1:
                return path.with_name(known[key][0])
            if known.get(key):
                break
        png = path.with_name(path.name + ".png")  # the original data's own suffix
        return png if png.is_file() else path

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._folders:
            known: dict[str, list[str]] = defaultdict(list)
            for file in sorted(folder.iterdir()) if folder.is_dir() else []:
                if file.suffix.lower() in PHOTO_SUFFIXES and file.is_file():
                    for key in {file.name.casefold(), file.stem.casefold()}:
                        known[key].append(file.name)
            self._folders[folder] = dict(known)
        return self._folders[folder]


def _known_tail(source: Path, name: str) -> str | None:
    """The longest end of a foreign path that is a photograph of the scene."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    for start in range(len(parts)):
        try:
            tail = check_image_name("/".join(parts[start:]), name)
        except FormatError:
            continue
        if _Photographs().find(source / tail).is_file():
            return tail
    return None
