# SPDX-License-Identifier: Apache-2.0
"""The photographs of a scene, with poses or without: masks can be made before the poses are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from arguments import ModelParams
from scene.cameras import Camera
from scene.readers.colmap import find_colmap_folder
from scene.readers.colmap.reading import natural_key
from scene.readers.layout import read_scene_files
from scene.readers.photo_files import foreign_files, photographs_in
from scene.readers.photos import at_render_size, without_missing
from scene.readers.posed import PosedImage
from scene.readers.scan import is_scan
from scene.readers.transforms import is_blender_scene, is_capture
from scene.splits import render_size
from utils.errors import DataError
from utils.images import picture_header, read_image, resize_image
from utils.orientation import turned


def scene_images(params: ModelParams, notices: list[str]) -> list[PosedImage]:
    """The images of a scene in the natural order of their names, sized as training would.

    Without poses these are all photographs in the folder that --images names, and their cameras
    tell the size and nothing else. Raises DataError and its like.
    """
    source = Path(params.source_path)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; --source_path must be the scene's folder")
    if has_poses(params):
        files = read_scene_files(params, notices)
        folder, posed = files.photographs, files.posed
    else:
        folder = source / params.images
        posed = _without_poses(folder, source)
    posed = without_missing(posed, folder, params.skip_missing, notices)
    posed = at_render_size(posed, params, notices)
    return sorted(posed, key=lambda image: natural_key(image.camera.name))


def has_poses(params: ModelParams) -> bool:
    """Whether the scene's folder holds a model of any kind."""
    source = Path(params.source_path)
    if is_blender_scene(source) or is_capture(source) or is_scan(source):
        return True
    return find_colmap_folder(source, params.sparse, []) is not None


def _without_poses(folder: Path, source: Path) -> list[PosedImage]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; --images must name the folder of photographs"
            f"{foreign_files(source)}"
        )
    names = photographs_in(folder)
    if not names:
        raise DataError(f"{folder}: holds no photographs{foreign_files(source)}")
    posed = []
    for uid, name in enumerate(names):
        width, height, _ = picture_header(folder / name)
        camera = Camera(
            world_to_view=torch.eye(4, dtype=torch.float64),
            fx=float(width),
            fy=float(width),
            cx=width / 2,
            cy=height / 2,
            width=width,
            height=height,
            name=name,
            uid=uid,
        )
        posed.append(PosedImage(camera, folder / name))
    return posed


def upright_pixels(image: PosedImage, resolution: int) -> NDArray[np.uint8]:
    """A photograph as people see it, [H, W, 3] RGB: turned upright, resized, alpha over black.

    Models that find objects were taught on upright pictures. The lens is left as it is.
    """
    pixels = read_image(image.path)
    if pixels.shape[0] == 4:
        pixels = pixels[:3] * pixels[3:]
    pixels = torch.from_numpy(turned(pixels.numpy(), orientation_of(image)))
    size = render_size(pixels.shape[2], pixels.shape[1], resolution)
    pixels = resize_image(pixels, *size)
    values = (pixels.clamp(0, 1) * 255.0 + 0.5).to(torch.uint8)
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())


def orientation_of(image: PosedImage) -> int:
    """The EXIF orientation of a photograph, 1 to 8."""
    return 1 if image.picture is None else image.picture.orientation
