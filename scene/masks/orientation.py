# SPDX-License-Identifier: Apache-2.0
"""Masks that were drawn on upright pictures, beside photographs that are stored turned."""

from __future__ import annotations

from pathlib import Path

from scene.masks.formats import PICTURE_SUFFIXES
from scene.pictures import StoredPicture
from utils.errors import MaskError
from utils.images import picture_header


def mask_turns(path: Path, size: tuple[int, int], picture: StoredPicture | None) -> tuple[int, ...]:
    """EXIF codes that bring a mask of `size` (width, height) to what the poses see; mostly none.

    Raises MaskError, naming the option that decides, where neither sizes nor tags tell.
    """
    if picture is None or picture.orientation == 1:
        return ()
    own_tag = picture_header(path)[2] if path.suffix.lower() in PICTURE_SUFFIXES else None
    turns = picture.mask_turns(*size, own_tag)
    if turns is None:
        raise MaskError(
            f"{path}: its photograph has EXIF orientation {picture.orientation}, and nothing tells "
            "whether the mask is of the stored or of the upright picture; pass --mask_orientation "
            "upright for masks drawn on pictures that stand upright, as most tools show them, or "
            "--mask_orientation stored for masks of the files' own pixels",
            "orientation",
        )
    return turns
