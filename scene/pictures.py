# SPDX-License-Identifier: Apache-2.0
"""From the pixels that a file stores to those of its view's camera: turned, straightened, resized.

Poses see the stored pixels of a photograph: COLMAP ignores EXIF orientations. Masks are often drawn
on the upright picture that annotation tools show, so they may stand differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scene.cameras import Camera
from scene.lenses import Lens, Pinhole, sampled_ids, sampled_image, valid_pixels
from utils.images import resize_id_map, resize_image
from utils.orientation import SWAPPING, turned, undoing


@dataclass(frozen=True)
class StoredPicture:
    """How the photograph of a view lies in its file, and what its masks may be drawn on."""

    width: int  # pixels of the file
    height: int
    orientation: int = 1  # its EXIF tag, 1..8; 1 is upright
    poses_upright: bool = False  # the poses are of the upright picture, not of the stored pixels
    lens: Lens | None = None  # of the picture that the poses see; None: a pinhole
    mask_orientation: str = "auto"  # auto | stored | upright: what decides where nothing else does
    image_id: int | None = None  # COLMAP's number of the image, for tracks and observations

    @property
    def seen_size(self) -> tuple[int, int]:
        """(width, height) of the picture that the poses see, before it is straightened."""
        swaps = self.poses_upright and self.orientation in SWAPPING
        return (self.height, self.width) if swaps else (self.width, self.height)

    def photograph(self, image: Tensor, camera: Camera) -> Tensor:
        """Stored pixels [C, h, w] as the camera sees them, [C, H, W]."""
        if self.poses_upright:
            image = torch.from_numpy(turned(image.numpy(), self.orientation))
        if self.lens is None:
            return resize_image(image, camera.width, camera.height)
        return sampled_image(image, self.lens, pinhole_of(camera))

    def label_map(
        self, ids: NDArray[np.int32], camera: Camera, turns: tuple[int, ...]
    ) -> NDArray[np.int32]:
        """Ids [h, w] of a mask file as the camera sees them, [H, W]; -1 where it sees none.

        The file may have any size. `turns` are those of `mask_turns`.
        """
        for code in turns:
            ids = turned(ids, code)
        if self.lens is None:
            return resize_id_map(ids, camera.width, camera.height)
        return sampled_ids(ids, self.lens, pinhole_of(camera))

    def valid(self, camera: Camera) -> NDArray[np.bool_] | None:
        """The camera's pixels [H, W] that the photograph shows; None if it shows them all."""
        return None if self.lens is None else valid_pixels(self.lens, pinhole_of(camera))

    def camera_pixels(
        self, pixels: NDArray[np.float64], declared: tuple[int, int], camera: Camera
    ) -> NDArray[np.float64]:
        """Where key points [n, 2] of a COLMAP model lie in the camera's picture, [n, 2].

        `declared` is the size (width, height) that the model declares for the photograph. NaN where
        the lens has no ray.
        """
        if self.lens is None:
            return pixels * ([camera.width, camera.height] / np.array(declared, np.float64))
        x, y = self.lens.resized(*declared).unproject(pixels[:, 0], pixels[:, 1])
        return np.stack([camera.fx * x + camera.cx, camera.fy * y + camera.cy], axis=1)

    def mask_turns(self, width: int, height: int, own_tag: int | None) -> tuple[int, ...] | None:
        """EXIF codes to apply, one after another, to a mask so that it stands as the poses see it.

        `width`, `height` and `own_tag` are the mask file's. A mask's own tag says how it stands;
        without one, only one of stored and upright fits a tag that swaps width and height. None
        where neither tells and `mask_orientation` is auto: a guess would be silently wrong.
        """
        tag = self.orientation
        to_stored = () if self.poses_upright else (undoing(tag),)
        if tag == 1:
            return ()
        if own_tag is not None:
            return () if own_tag == tag and not self.poses_upright else (own_tag, *to_stored)
        upright = {"stored": False, "upright": True}.get(self.mask_orientation)
        if tag in SWAPPING and self.width != self.height:
            fits_stored = same_shape(width, height, self.width, self.height)
            if fits_stored != same_shape(width, height, self.height, self.width):
                upright = not fits_stored
        if upright is None:
            return None
        if upright == self.poses_upright:
            return ()
        return to_stored if upright else (tag,)


def same_shape(width: int, height: int, other_width: int, other_height: int) -> bool:
    """Whether two sizes have one aspect ratio, but for the rounding of a pixel."""
    off_y = abs(other_height * width / other_width - height)
    off_x = abs(other_width * height / other_height - width)
    return min(off_x, off_y) <= 1


def pinhole_of(camera: Camera) -> Pinhole:
    """The camera's intrinsics alone."""
    return Pinhole(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
