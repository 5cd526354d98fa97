# SPDX-License-Identifier: Apache-2.0
"""The photographs that belong to the poses: found, checked against the cameras, and sized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from scene.cameras import Camera, PosedImage
from scene.readers.colmap.model import ColmapCamera, ColmapImage, ColmapModel
from scene.splits import WIDEST, render_size
from utils.errors import DataError
from utils.images import image_size

_NAMED = 5  # so many names are listed in a message before the count takes over


def posed_images(model: ColmapModel, folder: Path) -> list[PosedImage]:
    """The images of a COLMAP model with the files that they should have in `folder`."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --images must name the folder of photographs")
    return [
        PosedImage(colmap_camera(model.cameras[image.camera_id], image), folder / image.name)
        for image in model.images
    ]


def colmap_camera(intrinsics: ColmapCamera, image: ColmapImage) -> Camera:
    """One image of a COLMAP model as a camera, at the size that the model declares."""
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


def listed(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def without_missing(
    posed: list[PosedImage], skip_missing: bool, notices: list[str]
) -> list[PosedImage]:
    """The images that are on the disk, sorted by name and numbered.

    Raises DataError if any is missing (with `skip_missing`: if fewer than two are left), or is a
    link out of its folder.
    """
    posed = sorted(posed, key=lambda image: image.camera.name)
    there = [image for image in posed if image.path.is_file()]
    if len(there) < len(posed):
        lost = [str(image.path) for image in posed if not image.path.is_file()]
        fault = f"{len(lost)} of {len(posed)} images are missing: {listed(lost)}"
        if not skip_missing:
            raise DataError(f"{fault}; add them, or leave them out with --skip_missing")
        if len(there) < 2:
            raise DataError(f"{fault}; at least two views are needed")
        notices.append(f"{fault}; continuing with {len(there)}")
    for image in there:
        _check_inside(image)
    return [
        replace(image, camera=replace(image.camera, uid=uid)) for uid, image in enumerate(there)
    ]


def _check_inside(image: PosedImage) -> None:
    """Refuse a link that leads out of the images folder (that folder itself may be a link)."""
    root = image.path
    for _ in image.camera.name.split("/"):
        root = root.parent
    if not image.path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{image.path}: image {image.camera.name!r} is a link out of {root}")


def at_render_size(
    posed: list[PosedImage], resolution: int, notices: list[str]
) -> list[PosedImage]:
    """Cameras at the size that will be rendered (see `render_size`).

    A file may be a resampled copy of what the camera was calibrated for; then the intrinsics follow
    it. Raises DataError if its aspect ratio is another one.
    """
    shrunk = False
    resized = []
    for image in posed:
        camera = image.camera
        width, height = image_size(image.path)
        off_y = abs(camera.height * width / camera.width - height)
        off_x = abs(camera.width * height / camera.height - width)
        if min(off_x, off_y) > 1:
            raise DataError(
                f"{image.path}: the image has {width}x{height} pixels but its camera "
                f"{camera.width}x{camera.height}; the aspect ratios differ, so these are not the "
                "images that the poses were made with"
            )
        camera = camera.resized(*render_size(width, height, resolution))
        shrunk |= resolution == -1 and width > WIDEST
        resized.append(replace(image, camera=camera))
    if shrunk:
        notices.append(
            f"images wider than {WIDEST} pixels are used at a width of {WIDEST}; "
            "--resolution 1 keeps the full size"
        )
    return resized
