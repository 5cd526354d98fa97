# SPDX-License-Identifier: Apache-2.0
"""The photographs that belong to the poses: checked against the cameras, turned, and sized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from arguments import ModelParams
from scene.cameras import Camera
from scene.pictures import StoredPicture, same_shape
from scene.readers.colmap import ColmapCamera, ColmapImage, ColmapModel
from scene.readers.photo_files import FoundPhotographs, foreign_files, listed
from scene.readers.posed import PosedImage
from scene.splits import WIDEST, render_size
from utils.errors import DataError
from utils.images import picture_header
from utils.orientation import SWAPPING


def posed_images(model: ColmapModel, found: FoundPhotographs) -> list[PosedImage]:
    """The images of a COLMAP model with their files."""
    lenses = {number: camera.lens for number, camera in model.cameras.items()}
    return [
        PosedImage(
            colmap_camera(model.cameras[image.camera_id], image),
            found.paths[image.name],
            lens=lenses[image.camera_id],
            image_id=image.id,
        )
        for image in model.images
    ]


def colmap_camera(intrinsics: ColmapCamera, image: ColmapImage) -> Camera:
    """One image of a COLMAP model as a camera, at the size that the model declares.

    Of a lens with distortion these are the numbers before it is straightened.
    """
    return Camera(
        world_to_view=torch.from_numpy(image.world_to_view()),
        fx=intrinsics.fx,
        fy=intrinsics.fy,
        cx=intrinsics.cx,
        cy=intrinsics.cy,
        width=intrinsics.width,
        height=intrinsics.height,
        name=image.name,
        uid=0,
    )


def without_missing(
    posed: list[PosedImage], folder: Path, skip_missing: bool, notices: list[str]
) -> list[PosedImage]:
    """The images that are on the disk, sorted by name and numbered.

    Raises DataError if any is missing (with `skip_missing`: if fewer than two are left).
    """
    posed = sorted(posed, key=lambda image: image.camera.name)
    there = [image for image in posed if image.path.is_file()]
    if len(there) < len(posed):
        lost = [str(image.path) for image in posed if not image.path.is_file()]
        fault = f"{len(lost)} of {len(posed)} images are missing: {listed(lost)}"
        if not skip_missing:
            raise DataError(
                f"{fault}; add them, leave them out with --skip_missing, or name the folder of "
                f"photographs with --images (now {folder}){foreign_files(folder)}"
            )
        if len(there) < 2:
            raise DataError(f"{fault}; at least two views are needed")
        notices.append(f"{fault}; continuing with {len(there)}")
    return [
        replace(image, camera=replace(image.camera, uid=uid)) for uid, image in enumerate(there)
    ]


def at_render_size(
    posed: list[PosedImage], params: ModelParams, notices: list[str]
) -> list[PosedImage]:
    """Cameras at the size that will be rendered (see `render_size`), without distortion.

    A file may be a resampled copy of what the camera was calibrated for; then the intrinsics follow
    it. Raises DataError if its aspect ratio is another one.
    """
    sized = [_at_render_size(image, params) for image in posed]
    pictures = [image.picture for image in sized if image.picture is not None]
    shrunk = [image for image in sized if image.camera.width == WIDEST]
    if params.resolution == -1 and any(
        image.picture is not None and image.picture.seen_size[0] > WIDEST for image in shrunk
    ):
        notices.append(
            f"images wider than {WIDEST} pixels are used at a width of {WIDEST}; "
            "--resolution 1 keeps the full size"
        )
    bent = [image.lens.model for image in posed if image.lens is not None]
    if bent:
        notices.append(
            f"{len(bent)} of {len(posed)} photographs have lens distortion "
            f"({', '.join(sorted(set(bent)))}); they and their masks are straightened when read"
        )
    _note_orientations(pictures, notices)
    return sized


def _at_render_size(image: PosedImage, params: ModelParams) -> PosedImage:
    """One camera at its size, with what the photograph's header says."""
    camera = image.camera
    width, height, tag = picture_header(image.path)
    size = camera.width, camera.height
    upright = not same_shape(width, height, *size) and same_shape(height, width, *size)
    upright &= tag in SWAPPING
    if not upright and not same_shape(width, height, *size):
        turned = f"; EXIF orientation {tag}" if tag not in (1, None) else ""
        raise DataError(
            f"{image.path}: the image has {width}x{height} pixels{turned} but its camera "
            f"{camera.width}x{camera.height}; the aspect ratios differ, so these are not the "
            "images that the poses were made with"
        )
    picture = StoredPicture(
        width,
        height,
        tag or 1,
        upright,
        mask_orientation=params.mask_orientation,
        image_id=image.image_id,
    )
    camera = camera.resized(*picture.seen_size)
    if image.lens is not None:
        picture = replace(picture, lens=image.lens.resized(*picture.seen_size))
        camera = _straightened(camera, picture, image.path)
    camera = camera.resized(*render_size(camera.width, camera.height, params.resolution))
    return replace(image, camera=camera, picture=picture)


def _straightened(camera: Camera, picture: StoredPicture, path: Path) -> Camera:
    assert picture.lens is not None
    try:
        pinhole = picture.lens.pinhole()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return replace(
        camera,
        fx=pinhole.fx,
        fy=pinhole.fy,
        cx=pinhole.cx,
        cy=pinhole.cy,
        width=pinhole.width,
        height=pinhole.height,
    )


def _note_orientations(pictures: list[StoredPicture], notices: list[str]) -> None:
    """One sentence for the photographs that viewers turn and for those that are turned here."""
    for upright, words in (
        (False, "used as they are stored, as their poses see them"),
        (True, "turned upright, as their cameras' sizes ask for"),
    ):
        tags = [
            p.orientation for p in pictures if p.orientation != 1 and p.poses_upright == upright
        ]
        if tags:
            which = ", ".join(str(tag) for tag in sorted(set(tags)))
            notices.append(
                f"{len(tags)} of {len(pictures)} photographs have an EXIF orientation ({which}) "
                f"and are {words}"
            )
